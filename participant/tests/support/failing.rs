//! A wire to a node that breaks the calls that it is told to.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};
use tutti_regtest::node::Node;

use super::Home;

type Fails = dyn Fn(&str, &Value) -> Option<(i32, &'static str)> + Send + Sync;

/// From now on the participant's calls go through it: by method and first parameter it may answer one with an
/// error.
pub fn between(
    home: &Home,
    node: &Node,
    fails: impl Fn(&str, &Value) -> Option<(i32, &'static str)> + Send + Sync + 'static,
) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (port, fails): (u16, Arc<Fails>) = (node.rpc_port(), Arc::new(fails));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let fails = fails.clone();
            std::thread::spawn(move || relay(stream, port, &*fails));
        }
    });
    let config = std::fs::read_to_string(home.config()).expect("a file");
    let config = config.replace(&node.rpc_url(), &url);
    std::fs::write(home.config(), config).expect("written");
}

/// Until either end hangs up.
fn relay(client: TcpStream, port: u16, fails: &Fails) -> Option<()> {
    let node = TcpStream::connect(("127.0.0.1", port)).ok()?;
    for stream in [&client, &node] {
        // A head and its body are two writes: the second does not wait for an answer to the first.
        stream.set_nodelay(true).ok()?;
    }
    let (mut client, mut node) = (BufReader::new(client), BufReader::new(node));
    loop {
        let (head, body) = message(&mut client)?;
        let request: Value = serde_json::from_slice(&body).ok()?;
        let about = request["params"].get(0).unwrap_or(&Value::Null);
        let failure = fails(request["method"].as_str()?, about);
        let (head, body) = match failure {
            Some((code, message)) => {
                let error = json!({"code": code, "message": message});
                let body = json!({"result": null, "error": error, "id": request["id"]});
                let body = body.to_string().into_bytes();
                let head = format!(
                    "HTTP/1.1 500 Error\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                (head, body)
            }
            None => {
                node.get_mut().write_all(head.as_bytes()).ok()?;
                node.get_mut().write_all(&body).ok()?;
                message(&mut node)?
            }
        };
        client.get_mut().write_all(head.as_bytes()).ok()?;
        client.get_mut().write_all(&body).ok()?;
    }
}

fn message(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = &head[start..];
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}
