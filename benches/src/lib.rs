//! How the benches measure and print: each figure beside the limit measured in the same run.
//!
//! `cargo bench -p tutti-benches --bench NAME` prints a table, `-- --json` one object per row.
//!
//! | bench       | what it measures                                                              |
//! |-------------|-------------------------------------------------------------------------------|
//! | `audit`     | the check of shares and closed windows by participants and strangers          |
//! | `hash`      | the participant's hashing kernels and its change of jobs; `--peer MINERD`     |
//! | `replay`    | start-up of a coordinator from a full window of shares                        |
//! | `round`     | the arithmetic of a round, coordinator's and participant's                    |
//! | `round_net` | rounds of a real coordinator on a real node, over gRPC; `--quick`, `--full`   |
//! | `shares`    | share intake: loopback gRPC, checked, durable, acknowledged; `--quick`, `--full` |
//! | `split`     | the split of a reward                                                         |

#![forbid(unsafe_code)]

pub mod attempt;
pub mod hash;
pub mod instructions;
pub mod net;
pub mod past;
pub mod primitive;
pub mod shares;
pub mod start;

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
pub fn median<T>(prepare: impl FnMut() -> T, call: impl FnMut(T)) -> Duration {
    let times = sorted(prepare, call);
    times[times.len() / 2]
}

/// The same, of the fastest call: what the code takes. Whatever else the machine does only adds to it,
/// and a call that is longer than a time slice has few chances of going through undisturbed.
pub fn fastest<T>(prepare: impl FnMut() -> T, call: impl FnMut(T)) -> Duration {
    sorted(prepare, call)[0]
}

fn sorted<T>(mut prepare: impl FnMut() -> T, mut call: impl FnMut(T)) -> Vec<Duration> {
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
    times
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
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        self.measure(&Measure {
            parameters: &row.parameters,
            figure: row.figure,
            value: micros(row.value),
            unit: "us",
            limit: row.limit.map(micros),
        });
    }

    /// Prints one row of any unit.
    pub fn measure(&mut self, measure: &Measure<'_>) {
        if self.json {
            println!("{}", measure.to_json(self.bench));
            return;
        }
        if !self.headed {
            self.headed = true;
            println!(
                "{:<36} {:<42} {:>12} {:<5} {:>12} {:>7}",
                self.bench, "parameters", "value", "unit", "limit", "ratio"
            );
        }
        println!("{}", measure.to_line());
    }
}

/// A figure of any unit.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    /// The row's parameters, by name.
    pub parameters: &'a [(&'static str, u64)],
    /// What was measured.
    pub figure: &'a str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The limit, in the same unit, if the figure has one.
    pub limit: Option<f64>,
}

impl Measure<'_> {
    fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.value / limit)
    }

    fn to_json(self, bench: &str) -> Value {
        let mut object = Map::new();
        object.insert("bench".into(), bench.into());
        object.insert("figure".into(), self.figure.into());
        for (name, value) in self.parameters {
            object.insert((*name).into(), (*value).into());
        }
        object.insert("value".into(), json!(self.value));
        object.insert("unit".into(), self.unit.into());
        object.insert("limit".into(), json!(self.limit));
        object.insert("ratio".into(), json!(self.ratio()));
        Value::Object(object)
    }

    fn to_line(self) -> String {
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let limit = self.limit.map_or_else(String::new, |l| format!("{l:.1}"));
        let ratio = self.ratio().map_or_else(String::new, |r| format!("{r:.2}"));
        format!(
            "{:<36} {:<42} {:>12.1} {:<5} {limit:>12} {ratio:>7}",
            self.figure,
            parameters.join(", "),
            self.value,
            self.unit
        )
    }
}
