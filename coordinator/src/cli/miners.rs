//! Who worked lately, as a table and as JSON.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tutti_proto::work::Work;

use super::CliError;
use crate::config::Config;
use crate::miners::{Hashrate, Miner, Miners};

/// Prints them.
pub(super) fn print(path: &Path, minutes: u64, json: bool) -> Result<(), CliError> {
    let config = Config::load(path)?;
    let back = Duration::from_secs(minutes.saturating_mul(60));
    let since = SystemTime::now().checked_sub(back).unwrap_or(UNIX_EPOCH);
    let found = Miners::since(&config.data_dir.join("segments"), since)?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", as_json(&found))?;
        return Ok(());
    }
    let Some((first, last)) = found.windows else {
        if found.unread.is_empty() {
            let data_dir = config.data_dir.display();
            writeln!(
                out,
                "no two windows were closed in {minutes} min, by the files in {data_dir}: one is with each round of the pool, and `info` tells whether it runs"
            )?;
        }
        return tell_unread(&found);
    };
    let rate = |work| match Hashrate::of(work, found.lasted) {
        Some(rate) => rate.to_string(),
        None => "-".to_owned(),
    };
    let lasted = found.lasted.as_secs();
    writeln!(
        out,
        "windows   {first} to {last}, in {} min {} s",
        lasted / 60,
        lasted % 60
    )?;
    writeln!(out, "miners    {}", found.miners.len())?;
    writeln!(out, "hashrate  {}", rate(found.work))?;
    writeln!(
        out,
        "\n{:>12} {:>9}  {:>10}  identity",
        "hashrate", "of all", "last seen"
    )?;
    for miner in &found.miners {
        let (rate, part) = (rate(miner.work), percent(miner.work, found.work));
        let seen = age(miner.last_worked);
        writeln!(out, "{rate:>12} {part:>9}  {seen:>10}  {}", miner.identity)?;
    }
    tell_unread(&found)
}

/// What could not be read makes the rest no less true.
fn tell_unread(found: &Miners) -> Result<(), CliError> {
    let mut err = std::io::stderr();
    for error in &found.unread {
        writeln!(err, "a window is not counted: {error}")?;
    }
    Ok(())
}

/// With two digits, rounded down.
fn percent(part: Work, all: Work) -> String {
    // Of work beyond 2^114 hashes the low digits do not matter.
    let scale = |work: Work| work.0 >> 14;
    let (part, all) = match part.0.checked_mul(10_000) {
        Some(parts) => (parts, all.0),
        None => (scale(part).saturating_mul(10_000), scale(all)),
    };
    let parts = part.checked_div(all).unwrap_or(0);
    format!("{}.{:02} %", parts / 100, parts % 100)
}

/// How long ago it was.
fn age(then: SystemTime) -> String {
    match then.elapsed().unwrap_or_default().as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn as_json(found: &Miners) -> serde_json::Value {
    // As a string, as the work: JSON's integers end with 64 bits.
    let rate = |work| Hashrate::of(work, found.lasted).map(|rate| rate.0.to_string());
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    let miner = |miner: &Miner| {
        json!({
            "identity": miner.identity.to_string(),
            "work": miner.work.0.to_string(),
            "hashrate": rate(miner.work),
            "last_window": miner.last_window.0,
            "last_worked": seconds(miner.last_worked),
        })
    };
    json!({
        "first_window": found.windows.map(|(first, _)| first.0),
        "last_window": found.windows.map(|(_, last)| last.0),
        "seconds": found.lasted.as_secs(),
        "work": found.work.0.to_string(),
        "hashrate": rate(found.work),
        "miners": found.miners.iter().map(miner).collect::<Vec<_>>(),
        "unread": found.unread.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_all_work_are_percent() {
        let of = |part: u128, all: u128| percent(Work(part), Work(all));
        assert_eq!(of(0, 0), "0.00 %");
        assert_eq!(of(1, 3), "33.33 %");
        assert_eq!(of(7, 7), "100.00 %");
        assert_eq!(of(u128::MAX / 4, u128::MAX), "24.99 %");
    }
}
