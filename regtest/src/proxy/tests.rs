//! The proxy between two sockets of the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

const STEP: Duration = Duration::from_secs(30);

/// A proxy, and how to open a connection through it: both of its ends.
struct World {
    server: TcpListener,
    proxy: Proxy,
}

impl World {
    fn start() -> World {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(&server.local_addr().unwrap().to_string()).unwrap();
        World { server, proxy }
    }

    fn open(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).unwrap();
        let (server, _) = self.server.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(STEP)).unwrap();
        }
        (client, server)
    }
}

fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the bytes is an end like any other.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn read(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_pass_both_ways_and_one_sides_end_is_the_others() {
    let world = World::start();
    let (mut client, mut server) = world.open();
    client.write_all(b"join").unwrap();
    assert_eq!(read(&server, 4), b"join");
    server.write_all(b"welcome").unwrap();
    assert_eq!(read(&client, 7), b"welcome");
    drop(client);
    assert_eq!(read_all(&server), b"");
}

#[test]
fn a_cut_is_after_exactly_so_many_bytes_and_the_next_connection_is_whole() {
    let world = World::start();
    for direction in [Direction::ToCoordinator, Direction::ToParticipant] {
        let (mut client, mut server) = world.open();
        client.write_all(b"before").unwrap();
        assert_eq!(read(&server, 6), b"before");
        server.write_all(b"before").unwrap();
        assert_eq!(read(&client, 6), b"before");
        world.proxy.cut_after(direction, 40_001);
        let (from, to) = match direction {
            Direction::ToCoordinator => (&mut client, &server),
            Direction::ToParticipant => (&mut server, &client),
        };
        // More than the proxy reads at once; the end of it may meet a closed socket.
        let _ = from.write_all(&[7; 50_000]);
        assert_eq!(read_all(to), [7; 40_001]);
        let cut = world.proxy.wait_cut(STEP).unwrap();
        assert_eq!((cut.direction, cut.passed), (direction, 40_007));
        assert_eq!(read_all(from), b"");
    }
    let (mut client, server) = world.open();
    client.write_all(&[8; 50_000]).unwrap();
    drop(client);
    assert_eq!(read_all(&server), [8; 50_000]);
}

#[test]
fn a_cut_after_no_byte_needs_none() {
    let world = World::start();
    let (client, server) = world.open();
    world.proxy.cut_after(Direction::ToCoordinator, 0);
    assert_eq!(world.proxy.wait_cut(STEP).unwrap().torn, None);
    assert_eq!(read_all(&server), b"");
    assert_eq!(read_all(&client), b"");
}

#[test]
fn a_torn_message_ends_within_its_frame() {
    let world = World::start();
    let (client, mut server) = world.open();
    world.proxy.tear_data(Direction::ToParticipant, 10);
    let mut bytes = vec![0, 0, 4, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4];
    bytes.extend([0, 1, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([9; 256]);
    server.write_all(&bytes).unwrap();
    assert_eq!(read_all(&client), bytes[..13 + 9 + 10]);
    let torn = Torn {
        data: true,
        length: 256,
        passed: 10,
    };
    let cut = world.proxy.wait_cut(STEP).unwrap();
    assert_eq!((cut.passed, cut.torn), (32, Some(torn)));
}

#[test]
fn a_black_hole_swallows_one_direction_and_gives_it_back_in_order() {
    let world = World::start();
    let (mut client, mut server) = world.open();
    world.proxy.black_hole(Direction::ToCoordinator);
    client.write_all(b"late").unwrap();
    server.write_all(b"in time").unwrap();
    assert_eq!(read(&client, 7), b"in time");
    server.set_nonblocking(true).unwrap();
    let nothing = (&server).read(&mut [0; 4]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    world.proxy.pass();
    client.write_all(b"r").unwrap();
    assert_eq!(read(&server, 5), b"later");
}

#[test]
fn so_many_connections_are_refused_and_no_more() {
    let world = World::start();
    world.proxy.refuse(2);
    for _ in 0..2 {
        let refused = TcpStream::connect(world.proxy.address()).unwrap();
        refused.set_read_timeout(Some(STEP)).unwrap();
        assert_eq!(read_all(&refused), b"");
    }
    let (mut client, server) = world.open();
    client.write_all(b"in").unwrap();
    assert_eq!(read(&server, 2), b"in");
}

#[test]
fn nothing_is_left_of_a_dropped_proxy() {
    let world = World::start();
    let address = world.proxy.address();
    let (client, server) = world.open();
    drop(world.proxy);
    assert_eq!(read_all(&client), b"");
    assert_eq!(read_all(&server), b"");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_cut_ends_every_connection_and_none_that_comes_later() {
    let world = World::start();
    let (session, _session_server) = world.open();
    let (follower, mut follower_server) = world.open();
    world.proxy.cut_after(Direction::ToParticipant, 3);
    follower_server.write_all(b"window").unwrap();
    assert_eq!(read_all(&follower), b"win");
    assert_eq!(read_all(&session), b"");
    let cut = world.proxy.wait_cut(STEP).unwrap();
    assert_eq!(cut.passed, 3);
    let (again, mut again_server) = world.open();
    again_server.write_all(b"window").unwrap();
    assert_eq!(read(&again, 6), b"window");
}
