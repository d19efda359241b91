//! A node for tests, which answers as it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bitcoin::Network;
use serde_json::{Value, json};
use tutti_daemon::node::CallError;
use zeroize::Zeroizing;

use super::{Node, NodeAuth, NodeConfig};

/// To one call.
pub(crate) enum Answer {
    Is(Value),
    /// With an RPC error.
    Fails(i32, &'static str),
    /// The connection ends without one.
    HangsUp,
    /// The password is none of its own.
    Refuses,
}

/// Starts it. What a connection begins with it answers by itself.
pub(crate) fn scripted(
    answer: impl FnMut(&str, &[Value]) -> Answer + Send + 'static,
) -> NodeConfig {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answer) = (stream.unwrap(), answer.clone());
            std::thread::spawn(move || serve(stream, &answer));
        }
    });
    NodeConfig {
        url,
        auth: NodeAuth::UserPass {
            user: "user".to_owned(),
            password: Zeroizing::new("password".to_owned()),
        },
        network: Network::Regtest,
    }
}

/// Until either end hangs up.
fn serve(stream: TcpStream, answer: &Mutex<impl FnMut(&str, &[Value]) -> Answer>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = request(&mut stream) {
        let method = request["method"].as_str().unwrap();
        let params = request["params"].as_array().unwrap();
        let answer = match method {
            "getnetworkinfo" => Answer::Is(json!({"version": 310_000})),
            "getblockchaininfo" => Answer::Is(json!({"chain": "regtest"})),
            method => (*answer.lock().unwrap())(method, params),
        };
        let (status, result, error) = match answer {
            Answer::Is(result) => ("200 OK", result, Value::Null),
            Answer::Fails(code, message) => {
                let error = json!({"code": code, "message": message});
                ("500 Error", Value::Null, error)
            }
            Answer::HangsUp => break,
            Answer::Refuses => ("401 Unauthorized", Value::Null, Value::Null),
        };
        let id = &request["id"];
        let body = json!({"result": result, "error": error, "id": id}).to_string();
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        stream
            .get_mut()
            .write_all((head + &body).as_bytes())
            .unwrap();
    }
}

/// What a real node answers.
pub(crate) fn relayed(node: &Node, method: &str, params: &[Value]) -> Answer {
    // A test's few words may stay.
    let leaked = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    match node.connection.call(leaked(method), params) {
        Ok(answer) => Answer::Is(answer),
        Err(CallError::Rpc { code, message, .. }) => Answer::Fails(code, leaked(&message)),
        Err(error) => panic!("{method}: {error}"),
    }
}

fn request(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}
