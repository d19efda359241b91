//! Finding a bitcoind, with fake programs in place of the real ones.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tutti_regtest::bitcoind::{
    BitcoindExe, LocateError, Origin, ProbeError, Report, Search, Version,
};

/// Keeps what a person would have read.
#[derive(Default)]
struct Notes(Vec<String>);

impl Report for Notes {
    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    fn percent(&mut self, percent: u8) {
        self.0.push(format!("{percent} %"));
    }
}

impl Notes {
    fn contain(&self, text: &str) -> bool {
        self.0.iter().any(|note| note.contains(text))
    }
}

/// A machine with its own PATH and cache.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("bin")).expect("a directory");
        Machine { dir }
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn search(&self) -> Search {
        Search {
            named: None,
            path: self.bin().into(),
            cache_root: Some(self.cache()),
            may_install: false,
        }
    }

    /// Programs with which a build gets as far as `cmake_script`.
    fn install_compiler(&self, cmake_script: &str) {
        for program in ["make", "c++", "cc"] {
            program_at(&self.bin().join(program), "exit 0");
        }
        program_at(&self.bin().join("cmake"), cmake_script);
    }
}

/// Written by a child process: were it written by ours, a fork in another test's thread could hold
/// the file open for writing while we execute it.
fn program_at(path: &Path, script: &str) {
    let status = Command::new("/bin/sh")
        .args([
            "-c",
            "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod +x \"$1\"",
            "sh",
        ])
        .arg(path)
        .arg(script)
        .status()
        .expect("sh");
    assert!(status.success());
}

fn bitcoind_at(path: &Path, version: &str) {
    program_at(
        path,
        &format!("echo 'Bitcoin Core daemon version v{version}'"),
    );
}

fn run(search: &Search) -> (Result<BitcoindExe, LocateError>, Notes) {
    let mut notes = Notes::default();
    let result = search.run(&mut notes);
    (result, notes)
}

fn error_text(search: &Search) -> String {
    run(search).0.expect_err("nothing usable").to_string()
}

/// A cmake that builds working programs and counts how often it compiled.
fn building_cmake(machine: &Machine) -> String {
    format!(
        r#"if [ "$1" = "-S" ]; then exit 0; fi
echo compiled >> '{counter}'
mkdir -p "$2/bin"
echo '[ 50%] Building CXX object'
for name in bitcoind bitcoin-cli; do
  printf '#!/bin/sh\necho "Bitcoin Core daemon version v31.99.0-unk"\n' > "$2/bin/$name"
  chmod +x "$2/bin/$name"
done
echo '[100%] Built target bitcoind'"#,
        counter = machine.dir.path().join("counter").display()
    )
    .replace("mkdir", "/bin/mkdir")
    .replace("chmod", "/bin/chmod")
}

fn compilations(machine: &Machine) -> usize {
    fs::read_to_string(machine.dir.path().join("counter"))
        .unwrap_or_default()
        .lines()
        .count()
}

#[test]
fn versions_of_releases_and_forks_are_read() {
    let version = |major, minor, patch| {
        Some(Version {
            major,
            minor,
            patch,
        })
    };
    let parsed = |line: &str| Version::parse(line);
    assert_eq!(
        parsed("Bitcoin Core daemon version v31.99.0-unk\nCopyright"),
        version(31, 99, 0)
    );
    assert_eq!(parsed("Bitcoin Core version v28.0.0"), version(28, 0, 0));
    assert_eq!(parsed("Bitcoin Core version v29.1rc2"), version(29, 1, 0));
    assert_eq!(
        parsed("Bitcoin Knots daemon version v28.1.knots20250305"),
        version(28, 1, 0)
    );
    assert_eq!(parsed("Bitcoin Core version v0.21.1"), version(0, 21, 1));
    assert_eq!(parsed("Bitcoin Core RPC client version v31.0.0"), None);
    assert_eq!(
        parsed("Bitcoin Core bitcoin-wallet utility version v31.0.0"),
        None
    );
    assert_eq!(parsed("true (GNU coreutils) 9.1"), None);
    assert_eq!(parsed(""), None);
}

#[test]
fn the_named_one_wins_over_the_path() {
    let machine = Machine::new();
    bitcoind_at(&machine.bin().join("bitcoind"), "30.0.0");
    let named = machine.dir.path().join("mine");
    bitcoind_at(&named, "29.0.0");
    let search = Search {
        named: Some(named.clone()),
        ..machine.search()
    };
    let found = run(&search).0.expect("the named one");
    assert_eq!((found.path, found.origin), (named, Origin::Environment));
}

#[test]
fn an_unusable_named_one_is_an_error_although_the_path_has_a_good_one() {
    let machine = Machine::new();
    bitcoind_at(&machine.bin().join("bitcoind"), "30.0.0");
    let at = |name: &str| machine.dir.path().join(name);
    bitcoind_at(&at("old"), "27.2.0");
    program_at(&at("cli"), "echo 'Bitcoin Core RPC client version v30.0.0'");
    program_at(&at("failing"), "echo 'libfoo.so: not found' >&2; exit 127");
    for (name, why) in [
        (
            "old",
            "it is version 27.2.0, and Tutti needs 28.0.0 or newer",
        ),
        ("cli", "it is not bitcoind"),
        ("failing", "libfoo.so: not found"),
        ("absent", "it cannot be started"),
    ] {
        let search = Search {
            named: Some(at(name)),
            ..machine.search()
        };
        let text = error_text(&search);
        assert!(text.starts_with("BITCOIND_EXE is set to"), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(text.contains("unset it"), "{text}");
    }
}

#[test]
fn an_old_one_on_the_path_is_skipped_with_a_note() {
    let machine = Machine::new();
    let newer = machine.dir.path().join("newer");
    fs::create_dir(&newer).expect("a directory");
    bitcoind_at(&machine.bin().join("bitcoind"), "27.0.0");
    bitcoind_at(&newer.join("bitcoind"), "28.0.0");
    let path = std::env::join_paths([machine.bin(), newer.clone()]).expect("a path");
    let search = Search {
        path,
        ..machine.search()
    };
    let (found, notes) = run(&search);
    let found = found.expect("the newer one");
    assert_eq!(found.path, newer.join("bitcoind"));
    assert_eq!(found.origin, Origin::Path);
    assert!(notes.contain("27.0.0"), "{:?}", notes.0);
}

#[test]
fn missing_requirements_are_named_together_with_the_command() {
    let machine = Machine::new();
    program_at(&machine.bin().join("apt-get"), "exit 99");
    let text = error_text(&machine.search());
    for part in [
        "cmake, make or ninja, a C and C++ compiler, the Boost headers",
        "TUTTI_NO_INSTALL is set",
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends \
         cmake make g++ libboost-dev",
        "BITCOIND_EXE",
    ] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn without_apt_no_command_is_made_up() {
    let text = error_text(&Machine::new().search());
    assert!(text.contains("there is no apt-get here"), "{text}");
    assert!(!text.contains("Run:"), "{text}");
}

#[test]
fn no_cache_directory_is_named_as_such() {
    let search = Search {
        cache_root: None,
        ..Machine::new().search()
    };
    assert!(error_text(&search).contains("TUTTI_CACHE_DIR"));
}

#[test]
fn an_unusable_cache_directory_is_named() {
    let machine = Machine::new();
    fs::write(machine.cache(), "a file").expect("a file");
    let text = error_text(&machine.search());
    assert!(text.contains(&*machine.cache().to_string_lossy()), "{text}");
    assert!(text.contains("TUTTI_CACHE_DIR"), "{text}");
}

#[test]
fn a_build_is_made_once_and_then_found_in_the_cache() {
    let machine = Machine::new();
    machine.install_compiler(&building_cmake(&machine));
    let (built, notes) = run(&machine.search());
    let built = built.expect("a build");
    assert_eq!(built.origin, Origin::Built);
    assert!(built.path.starts_with(machine.cache()));
    assert!(built.cli().is_some());
    assert!(notes.contain("minute"), "how long it takes: {:?}", notes.0);
    assert!(notes.contain("50 %") && notes.contain("100 %"));
    let (cached, notes) = run(&machine.search());
    assert_eq!(cached.expect("the cache").origin, Origin::Cache);
    assert!(notes.0.is_empty(), "{:?}", notes.0);
    assert_eq!(compilations(&machine), 1);
    let left: Vec<OsString> = fs::read_dir(machine.cache())
        .expect("the cache")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().contains("building"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn many_at_once_make_one_build() {
    let machine = Machine::new();
    machine.install_compiler(&building_cmake(&machine));
    std::thread::scope(|scope| {
        let searches: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| run(&machine.search()).0))
            .collect();
        let origins: Vec<Origin> = searches
            .into_iter()
            .map(|s| s.join().expect("the thread").expect("a bitcoind").origin)
            .collect();
        let built = origins.iter().filter(|o| **o == Origin::Built).count();
        assert_eq!(built, 1, "{origins:?}");
    });
    assert_eq!(compilations(&machine), 1);
}

#[test]
fn a_cached_one_that_no_longer_starts_is_built_again() {
    let machine = Machine::new();
    machine.install_compiler(&building_cmake(&machine));
    let path = run(&machine.search()).0.expect("a build").path;
    program_at(&path, "echo 'a library is gone' >&2; exit 127");
    let (rebuilt, notes) = run(&machine.search());
    assert_eq!(rebuilt.expect("a build").origin, Origin::Built);
    assert!(notes.contain("a library is gone"), "{:?}", notes.0);
    assert_eq!(compilations(&machine), 2);
}

#[test]
fn a_failed_build_names_its_step_its_last_lines_and_its_log() {
    let machine = Machine::new();
    machine.install_compiler("echo 'error: the compiler is too old' >&2; exit 1");
    let error = run(&machine.search()).0.expect_err("cmake fails");
    let LocateError::Build { log, .. } = &error else {
        panic!("{error}");
    };
    assert!(log.is_file(), "the log is kept");
    let text = error.to_string();
    assert!(text.contains("cmake's configuration"), "{text}");
    assert!(text.contains("the compiler is too old"), "{text}");
    assert!(text.contains(&*log.to_string_lossy()), "{text}");
}

#[test]
fn a_build_that_gives_no_bitcoind_is_not_kept_as_one() {
    let machine = Machine::new();
    let cmake = building_cmake(&machine).replace("daemon version", "RPC client version");
    machine.install_compiler(&cmake);
    let error = run(&machine.search()).0.expect_err("not a bitcoind");
    assert!(
        matches!(
            &error,
            LocateError::BuiltUnusable {
                why: ProbeError::NotBitcoind { .. },
                ..
            }
        ),
        "{error}"
    );
}
