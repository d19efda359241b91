//! A guard against hot paths that grow: counts their instructions and compares with what is committed.
//!
//! `cargo run --release -p tutti-benches --bin tutti-instructions` fails where a path has more than 5 %
//! more instructions than `benches/instructions.json` says; `-- --update` writes that file anew, and the
//! commit that does so says why. No clock is read, so the machine's load does not matter. What matters
//! is the compiler, whose version is in the file, and the architecture.
//!
//! It counts with valgrind's callgrind, and fails without it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tutti_benches::instructions::{Baseline, Counts, PATHS, count, rustc};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // What callgrind starts.
        ["--path", name] => {
            let path = PATHS.iter().find(|path| path.name == name);
            let path = path.with_context(|| format!("no path is named {name}"))?;
            path.run(counted_from_here)?;
            Ok(ExitCode::SUCCESS)
        }
        ["--update"] => {
            let baseline = Baseline::new(rustc()?, counts()?);
            baseline.write()?;
            print!("{}", baseline.table(&baseline.instructions));
            Ok(ExitCode::SUCCESS)
        }
        [] => {
            let (baseline, counts) = (Baseline::read()?, counts()?);
            print!("{}", baseline.table(&counts));
            let grown = baseline.grown(&counts);
            if grown.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!("{}", baseline.complaint(&grown, &rustc()?));
            Ok(ExitCode::FAILURE)
        }
        _ => bail!("only --update is known"),
    }
}

fn counts() -> Result<Counts> {
    let own = std::env::current_exe().context("cannot find the own program")?;
    let count = |path: &tutti_benches::instructions::HotPath| {
        Ok((
            path.name.to_owned(),
            count(&own, path.name, "*counted_from_here*")?,
        ))
    };
    PATHS.iter().map(count).collect()
}

/// The instructions between its beginning and its end are counted: it must remain a function.
#[inline(never)]
fn counted_from_here(work: &mut dyn FnMut()) {
    work();
}
