//! The log of a test.

use std::io;
use std::sync::mpsc::{Sender, channel};

use serde_json::Value;
use tutti_daemon::config::LogFormat;
use tutti_daemon::log::Line;

struct Lines(Sender<Vec<u8>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line.to_vec()).map_err(io::Error::other)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that this thread writes while it does something.
pub(crate) fn caught(body: impl FnOnce()) -> Vec<Value> {
    let (sender, lines) = channel();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || Lines(sender.clone()))
        .event_format(Line(LogFormat::Json))
        .finish();
    tracing::subscriber::with_default(subscriber, body);
    let lines = lines.try_iter();
    lines
        .map(|line| serde_json::from_slice(&line).unwrap())
        .collect()
}
