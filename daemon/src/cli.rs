//! How a command begins and fails: in words for a person, as JSON for a program.

use std::fmt::Display;
use std::process::{self, ExitCode};

use clap::Parser;
use serde_json::{Value, json};

/// What clap's users expect of arguments that are no command.
const USAGE: i32 = 2;

/// Reads the arguments. What is wrong with them is told, and ends the process.
pub fn parse<C: Parser>() -> C {
    C::try_parse().unwrap_or_else(|error| {
        let json = std::env::args_os().any(|argument| argument == "--json");
        // Help and version are answers, not failures.
        if json && error.use_stderr() {
            eprintln!("{}", wrong_usage(&error));
            process::exit(USAGE);
        }
        error.exit()
    })
}

/// Tells why a command of this program failed.
pub fn failed(program: &str, json: bool, error: &impl Display) -> ExitCode {
    match json {
        true => eprintln!("{}", json!({"error": error.to_string()})),
        false => eprintln!("{program}: {error}"),
    }
    ExitCode::FAILURE
}

/// The first paragraph says what is wrong, the others how it is written, for people.
fn wrong_usage(error: &clap::Error) -> Value {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (what, _) = text.split_once("\n\n").unwrap_or((text, ""));
    let words: Vec<&str> = what.split_whitespace().collect();
    json!({"error": words.join(" ")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Command {
        #[arg(long = "feerate")]
        _feerate: u32,
    }

    #[test]
    fn wrong_usage_is_one_sentence_for_programs() {
        let said = |arguments: &[&str]| {
            let error = Command::try_parse_from(arguments).err().unwrap();
            wrong_usage(&error)["error"].as_str().unwrap().to_owned()
        };
        let missing = said(&["program"]);
        assert!(missing.contains("not provided"), "{missing}");
        assert!(missing.contains("--feerate"), "{missing}");
        let wrong = said(&["program", "--feerate", "many"]);
        assert!(wrong.starts_with("invalid value 'many'"), "{wrong}");
        assert!(!wrong.contains("--help"), "{wrong}");
    }
}
