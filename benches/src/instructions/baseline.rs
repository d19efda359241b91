//! What is committed, and how far from it is too far.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Instructions by path.
pub type Counts = BTreeMap<String, u64>;

/// A path may have this much more. Less than any change of an algorithm makes, more than what another
/// layout of the same code does.
const TOLERANCE_PERCENT: u64 = 5;

/// The committed counts, and what they were counted with.
#[derive(Clone, Debug)]
pub struct Baseline {
    pub rustc: String,
    pub instructions: Counts,
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

impl Baseline {
    pub fn new(rustc: String, instructions: Counts) -> Self {
        Self {
            rustc,
            instructions,
        }
    }

    pub fn read() -> Result<Self> {
        let name = file();
        let text = std::fs::read(&name);
        let text =
            text.with_context(|| format!("cannot read {}; --update writes it", name.display()))?;
        let value: Value = serde_json::from_slice(&text).context("the baseline is no JSON")?;
        let counts = value["instructions"]
            .as_object()
            .context("the baseline has no instructions")?;
        let count = |(path, count): (&String, &Value)| {
            let count = count
                .as_u64()
                .with_context(|| format!("{path} has no count"))?;
            Ok((path.clone(), count))
        };
        Ok(Self {
            rustc: value["rustc"]
                .as_str()
                .context("the baseline names no rustc")?
                .to_owned(),
            instructions: counts.iter().map(count).collect::<Result<_>>()?,
        })
    }

    pub fn write(&self) -> Result<()> {
        let value = json!({ "rustc": self.rustc, "instructions": self.instructions });
        let text = serde_json::to_string_pretty(&value)? + "\n";
        std::fs::write(file(), text).context("cannot write the baseline")
    }

    /// The paths that have too many instructions, or that the baseline does not know.
    pub fn grown(&self, counts: &Counts) -> Vec<String> {
        let is_grown = |(path, count): &(&String, &u64)| {
            let allowed = self.instructions.get(*path).map_or(0, |known| {
                known.saturating_add(known / 100 * TOLERANCE_PERCENT)
            });
            **count > allowed
        };
        counts
            .iter()
            .filter(is_grown)
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// For persons.
    pub fn table(&self, counts: &Counts) -> String {
        let mut table = format!(
            "{:<40} {:>15} {:>15} {:>8}\n",
            "instructions", "now", "committed", "ratio"
        );
        for (path, count) in counts {
            let known = self.instructions.get(path).copied().unwrap_or(0);
            let ratio = *count as f64 / known as f64;
            // Writing to a string does not fail.
            let _ = writeln!(table, "{path:<40} {count:>15} {known:>15} {ratio:>8.3}");
        }
        table
    }

    /// What is wrong, and what to do.
    pub fn complaint(&self, grown: &[String], rustc: &str) -> String {
        let compiler = if self.rustc == rustc {
            String::new()
        } else {
            format!(
                " The compiler is another one too: {rustc} instead of {}.",
                self.rustc
            )
        };
        format!(
            "more than {TOLERANCE_PERCENT} % more instructions than committed: {}.{compiler} If this is meant, \
             run `cargo run --release -p tutti-benches --bin tutti-instructions -- --update` and say why in the commit",
            grown.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(count: u64) -> Baseline {
        Baseline::new("rustc 1".into(), Counts::from([("split".into(), count)]))
    }

    #[test]
    fn five_percent_more_is_allowed_and_no_more() {
        let of = |count| Counts::from([("split".to_owned(), count)]);
        assert!(baseline(1_000).grown(&of(1_050)).is_empty());
        assert!(baseline(1_000).grown(&of(10)).is_empty());
        assert_eq!(baseline(1_000).grown(&of(1_051)), ["split"]);
    }

    #[test]
    fn a_path_that_nothing_is_known_of_is_not_passed_over() {
        let counts = Counts::from([("another".to_owned(), 1)]);
        assert_eq!(baseline(1_000).grown(&counts), ["another"]);
    }

    #[test]
    fn another_compiler_is_named() {
        let complaint = baseline(1).complaint(&["split".into()], "rustc 2");
        assert!(
            complaint.contains("rustc 2 instead of rustc 1"),
            "{complaint}"
        );
    }
}
