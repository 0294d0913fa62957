//! What the packages that Cargo.toml describes hold.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::packages::{Assets, PROGRAM, assets, lay_out, repository, run, sources, started, table};

#[test]
fn both_kinds_of_package_hold_the_same() {
    let place = |assets: Assets| {
        let places = assets.into_iter().map(|(source, place, mode)| {
            (source, place.replace("zsh/site-functions", "zsh/vendor-completions"), mode)
        });
        places.collect::<Vec<_>>()
    };
    let deb = place(assets(&table("package.metadata.deb")));
    assert_eq!(deb, place(assets(&table("package.metadata.generate-rpm"))));
    for (source, place, mode) in &deb {
        let found = sources(source);
        assert!(!found.is_empty(), "{source} is not there");
        for file in found {
            let runs = fs::metadata(&file).unwrap().permissions().mode() & 0o111 != 0;
            assert!(!runs || *mode == 0o755, "{}: {place} would not be executable", file.display());
        }
    }
}

#[test]
fn what_the_package_adds_to_the_units_is_the_place_of_the_program() {
    let directory = TempDir::new().unwrap();
    lay_out(directory.path());
    let mut checked = 0;
    for manager in ["system", "user"] {
        let units = directory.path().join("usr/lib/systemd").join(manager);
        for entry in fs::read_dir(&units).unwrap() {
            let unit = entry.unwrap().path();
            if unit.extension().is_none_or(|kind| kind != "service") {
                continue;
            }
            let text = fs::read_to_string(&unit).unwrap();
            let own = started(&text);
            // What a systemd older than 253 does not know.
            fs::write(&unit, text.replace("\nType=notify-reload\n", "\n")).unwrap();
            let added = PathBuf::from(format!("{}.d/package.conf", unit.display()));
            let packaged = fs::read_to_string(&added).unwrap();
            assert_eq!(started(&packaged)[0], "/usr/bin/postrider");
            assert_eq!(started(&packaged)[1..], own[1..], "{}", unit.display());
            // As systemd reads both together; the program is where these tests have it.
            fs::write(&added, packaged.replace("/usr/bin/postrider", PROGRAM)).unwrap();
            let mut analyze = Command::new("systemd-analyze");
            analyze.env("XDG_RUNTIME_DIR", directory.path()).env("SYSTEMD_OFFLINE", "1");
            analyze.args(["--man=no", "verify", "--recursive-errors=no", &format!("--{manager}")]).arg(&unit);
            assert_eq!(run(&mut analyze), "", "{}", unit.display());
            checked += 1;
        }
    }
    assert_eq!(checked, 4);
}

#[test]
fn the_example_of_a_configuration_is_one_and_the_synopsis_is_one_line() {
    let mut check = Command::new(PROGRAM);
    check.arg("--config").arg(repository().join("contrib/packages/config.yaml")).args(["config", "check"]);
    assert!(run(&mut check).contains("1 account, no mistakes"));
    // The first line of a package's description, which dpkg folds no further.
    assert!(env!("CARGO_PKG_DESCRIPTION").len() < 80, "{}", env!("CARGO_PKG_DESCRIPTION"));
}

#[test]
fn systemd_makes_the_user_that_the_package_describes() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("etc")).unwrap();
    let mut sysusers = Command::new("systemd-sysusers");
    sysusers.arg(format!("--root={}", directory.path().display()));
    run(sysusers.arg(repository().join("contrib/packages/sysusers.conf")));
    let passwd = fs::read_to_string(directory.path().join("etc/passwd")).unwrap();
    assert!(passwd.contains(":/var/lib/postrider:/usr/sbin/nologin\n"), "{passwd}");
}

#[test]
fn shells_load_completions_from_the_package() {
    let at = |file: &str| repository().join("contrib/packages/completions").join(file);
    let ask = |shell: &str, options: &[&str], ask: &str| {
        let path = format!("{}:/usr/bin:/bin", Path::new(PROGRAM).parent().unwrap().display());
        run(Command::new(shell).args(options).args(["-c", ask]).env_clear().env("PATH", path))
    };
    let told =
        ask("bash", &["--norc"], &format!(". {}; complete -p postrider", at("postrider.bash").display()));
    assert!(told.contains("-F _postrider"), "{told}");
    let fish = format!("source {}; complete -C 'postrider sy'", at("postrider.fish").display());
    assert!(ask("fish", &["--no-config"], &fish).starts_with("sync"));
    // As zsh loads it when it is first asked; its own part that shows what is offered stands in for a terminal.
    let zsh = format!(
        "fpath=({} $fpath); autoload -U compinit; compinit -u -D; _arguments() {{ print -r -- $@ }}; \
         autoload -Uz _postrider; _postrider; _postrider",
        at("").display()
    );
    let told = ask("zsh", &["--no-rcs"], &zsh);
    assert_eq!(told.matches(":: :_postrider_commands").count(), 2, "{told}");
}

#[test]
fn the_crate_holds_what_is_built_tested_read_and_installed_and_nothing_else() {
    let mut list = Command::new(env!("CARGO"));
    list.args(["package", "--list", "--allow-dirty", "--offline", "--quiet"]).current_dir(repository());
    let listed = run(&mut list);
    let files: Vec<&str> = listed.lines().collect();
    let wanted =
        ["src/main.rs", "man/postrider.1", "contrib/packages/postinst", "docs/safety.md", "LICENSE-MIT"];
    assert!(wanted.iter().all(|file| files.contains(file)), "{listed}");
    let of_cargo = [".cargo_vcs_info.json", "Cargo.toml", "Cargo.toml.orig", "Cargo.lock"];
    let pages =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"];
    let folders = ["src", "tests", "benches", "examples", "man", "contrib", "docs"];
    let stray = files.iter().filter(|file| {
        let hidden = file.split('/').any(|part| part.starts_with('.'));
        let folder = file.split_once('/').map_or("", |(folder, _)| folder);
        !of_cargo.contains(file) && !pages.contains(file) && (hidden || !folders.contains(&folder))
    });
    assert_eq!(stray.collect::<Vec<_>>(), [&""; 0]);
}

#[test]
fn pages_in_the_package_lead_to_what_is_in_it_and_speak_of_no_source_tree() {
    let directory = TempDir::new().unwrap();
    lay_out(directory.path());
    let documentation = directory.path().join("usr/share/doc/postrider");
    let (mut pages, mut followed) = (vec![documentation.join("README.md")], 0);
    for folder in ["docs", "docs/providers"] {
        let entries = fs::read_dir(documentation.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            let to = page.parent().unwrap().join(link);
            assert!(to.exists(), "{}: {link} is not in the package", page.display());
            followed += 1;
        }
        assert!(!text.contains("cargo install") && !text.contains(".cargo/bin"), "{}", page.display());
    }
    assert!(followed > 30, "{followed}");
    let crontab = fs::read_to_string(documentation.join("examples/crontab")).unwrap();
    assert!(
        crontab.contains("\n*/5 * * * * /usr/bin/postrider sync\n") && !crontab.contains("cargo"),
        "{crontab}"
    );
}
