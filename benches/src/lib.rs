//! How the benches measure and print: each figure beside the limit measured in the same run.
//!
//! `cargo bench -p tutti-benches --bench NAME` prints a table, `-- --json` one object per row.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// One measured figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// The row's parameters, by name.
    pub parameters: Vec<(&'static str, u64)>,
    /// What was measured, and its name.
    pub figure: &'static str,
    /// The program's time.
    pub value: Duration,
    /// The time of the primitive operations alone, if the figure has such a limit.
    pub limit: Option<Duration>,
}

/// Median time of one call, over at least five calls and a quarter of a second.
pub fn median<T>(mut prepare: impl FnMut() -> T, mut call: impl FnMut(T)) -> Duration {
    let mut times = Vec::new();
    let started = Instant::now();
    while times.len() < 5 || (started.elapsed() < Duration::from_millis(250) && times.len() < 1_000)
    {
        let input = prepare();
        let start = Instant::now();
        call(input);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// Prints rows as they come.
#[derive(Debug)]
pub struct Printer {
    bench: &'static str,
    json: bool,
    headed: bool,
}

impl Printer {
    /// A printer for this bench; reads `--json` from the command line.
    pub fn new(bench: &'static str) -> Self {
        Self {
            bench,
            json: std::env::args().any(|argument| argument == "--json"),
            headed: false,
        }
    }

    /// Prints one row.
    pub fn row(&mut self, row: &Row) {
        let ratio = row
            .limit
            .map(|limit| row.value.as_secs_f64() / limit.as_secs_f64());
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        if self.json {
            let mut object = Map::new();
            object.insert("bench".into(), self.bench.into());
            object.insert("figure".into(), row.figure.into());
            for (name, value) in &row.parameters {
                object.insert((*name).into(), (*value).into());
            }
            object.insert("value".into(), json!(micros(row.value)));
            object.insert("unit".into(), "us".into());
            object.insert(
                "limit".into(),
                row.limit.map_or(Value::Null, |limit| json!(micros(limit))),
            );
            object.insert(
                "ratio".into(),
                ratio.map_or(Value::Null, |ratio| json!(ratio)),
            );
            println!("{}", Value::Object(object));
            return;
        }
        if !self.headed {
            self.headed = true;
            println!(
                "{:<28} {:<34} {:>12} {:>12} {:>7}",
                self.bench, "parameters", "us", "limit us", "ratio"
            );
        }
        let parameters: Vec<String> = row
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let limit = row
            .limit
            .map_or_else(String::new, |limit| format!("{:.1}", micros(limit)));
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!(
            "{:<28} {:<34} {:>12.1} {limit:>12} {ratio:>7}",
            row.figure,
            parameters.join(", "),
            micros(row.value)
        );
    }
}
