//! What a build of Bitcoin Core needs from the machine, and how it gets there on Debian.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::build_log::BuildLog;
use super::error::LocateError;
use super::report::Report;

/// Core uses Boost through its headers only, and this is the one its mempool is made of.
const BOOST_HEADER: &str = "boost/multi_index_container.hpp";

/// One thing the build needs, and the Debian package that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    pub what: &'static str,
    pub package: &'static str,
}

const CMAKE: Requirement = Requirement {
    what: "cmake",
    package: "cmake",
};
const MAKE: Requirement = Requirement {
    what: "make or ninja",
    package: "make",
};
const COMPILER: Requirement = Requirement {
    what: "a C and C++ compiler",
    package: "g++",
};
const BOOST: Requirement = Requirement {
    what: "the Boost headers",
    package: "libboost-dev",
};

/// Releases before 31 serve RPC by it.
const LIBEVENT_HEADER: &str = "event2/event.h";
const LIBEVENT: Requirement = Requirement {
    what: "the libevent headers",
    package: "libevent-dev",
};
const PKG_CONFIG: Requirement = Requirement {
    what: "pkg-config",
    package: "pkg-config",
};

/// The programs a build runs, as found.
#[derive(Debug)]
pub struct Tools {
    pub cmake: PathBuf,
    pub generator: &'static str,
}

/// Finds the tools or lists everything missing at once, so that a person installs only once.
pub fn find_tools(path: &OsStr, with_libevent: bool) -> Result<Tools, Vec<Requirement>> {
    let cmake = find_program(path, &["cmake"]);
    let generator = if find_program(path, &["make"]).is_some() {
        Some("Unix Makefiles")
    } else {
        find_program(path, &["ninja"]).map(|_| "Ninja")
    };
    let cxx = find_program(path, &["c++", "g++", "clang++"]);
    let cc = find_program(path, &["cc", "gcc", "clang"]);
    let boost = cxx
        .as_deref()
        .is_some_and(|cxx| has_header(cxx, BOOST_HEADER));

    let libevent = !with_libevent
        || cxx
            .as_deref()
            .is_some_and(|cxx| has_header(cxx, LIBEVENT_HEADER));
    let pkg_config = !with_libevent || find_program(path, &["pkg-config", "pkgconf"]).is_some();
    let missing = [
        (cmake.is_none(), CMAKE),
        (generator.is_none(), MAKE),
        (cxx.is_none() || cc.is_none(), COMPILER),
        (!boost, BOOST),
        (!libevent, LIBEVENT),
        (!pkg_config, PKG_CONFIG),
    ];
    match (cmake, generator) {
        (Some(cmake), Some(generator)) if !missing.iter().any(|(absent, _)| *absent) => {
            Ok(Tools { cmake, generator })
        }
        _ => Err(missing
            .into_iter()
            .filter_map(|(absent, requirement)| absent.then_some(requirement))
            .collect()),
    }
}

/// First executable file of one of these names, by name first, then along the path.
pub fn find_program(path: &OsStr, names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|name| programs(path, name).next())
}

/// Every executable file of this name along the path.
pub fn programs(path: &OsStr, name: &str) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path)
        .map(move |directory| directory.join(name))
        .filter(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Asks the compiler itself, which knows its own search directories.
fn has_header(cxx: &Path, header: &str) -> bool {
    Command::new(cxx)
        .args(["-E", "-x", "c++", "-include", header, "-o", "/dev/null"])
        .arg("/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether packages may be installed without asking anybody.
enum Permission {
    Root,
    Sudo,
    No(&'static str),
}

fn permission(may_install: bool) -> Permission {
    if !may_install {
        return Permission::No("TUTTI_NO_INSTALL is set");
    }
    if output_of("id", &["-u"]).as_deref() == Some("0") {
        return Permission::Root;
    }
    if output_of("sudo", &["-n", "true"]).is_some() {
        return Permission::Sudo;
    }
    Permission::No("it is not root, and sudo asks for a password or is absent")
}

fn output_of(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Installs Debian packages for `missing`, or says which command a person has to run.
pub fn install(
    missing: &[Requirement],
    path: &OsStr,
    may_install: bool,
    log: &BuildLog,
    report: &mut dyn Report,
) -> Result<(), LocateError> {
    let packages: Vec<&str> = missing.iter().map(|r| r.package).collect();
    let has_apt = find_program(path, &["apt-get"]).is_some();
    let by_hand = format!(
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    let refuse = |why_not| LocateError::MissingRequirements {
        missing: missing.iter().map(|r| r.what).collect(),
        why_not,
        command: has_apt.then(|| by_hand.clone()),
    };
    if !has_apt {
        return Err(refuse("there is no apt-get here"));
    }
    let prefix: &[&str] = match permission(may_install) {
        Permission::Root => &[],
        Permission::Sudo => &["sudo", "-n"],
        Permission::No(why_not) => return Err(refuse(why_not)),
    };
    report.note(&format!(
        "installing Debian packages for the build (set TUTTI_NO_INSTALL=1 to forbid it): {}",
        packages.join(" ")
    ));
    let update = apt_get(prefix, &["update"]);
    let install = [
        &["install", "-y", "--no-install-recommends"],
        packages.as_slice(),
    ]
    .concat();
    for mut step in [update, apt_get(prefix, &install)] {
        let succeeded = run_into(&mut step, log.append()?).is_ok_and(|success| success);
        if !succeeded {
            return Err(LocateError::Install {
                command: by_hand,
                tail: log.tail(),
                log: log.path().to_owned(),
            });
        }
    }
    Ok(())
}

fn apt_get(prefix: &[&str], args: &[&str]) -> Command {
    // `env` rather than Command::env, because sudo would drop the variable. An apt-get of the
    // system's own may hold dpkg's lock for some minutes after boot.
    let words = [
        prefix,
        &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"],
        &["-o", "DPkg::Lock::Timeout=300"],
        args,
    ]
    .concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn run_into(command: &mut Command, log: File) -> std::io::Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    Ok(status.success())
}
