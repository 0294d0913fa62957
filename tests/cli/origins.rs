//! Which configuration is read, and where its keys come from.

use crate::support::postrider::Home;

#[test]
fn the_environment_names_the_configuration_unless_the_command_line_does() {
    let home = Home::new();
    let (one, two) = ("accounts: { one: ", "accounts: { two: ");
    let rest = "{ host: h, user: u, deliver: { maildir: ~/Mail } } }\n";
    let first = home.write("first.yaml", &format!("{one}{rest}"));
    home.write("second.yaml", &format!("{two}{rest}"));
    let names = |arguments: &[&str], of_environment: &str| {
        let output = home.command(arguments).env("POSTRIDER_CONFIG", of_environment).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(names(&["config", "accounts"], first.to_str().unwrap()), "one\n");
    assert_eq!(names(&["--config", "second.yaml", "config", "accounts"], first.to_str().unwrap()), "two\n");
    home.configure(&format!("{two}{rest}"));
    assert_eq!(names(&["config", "accounts"], ""), "two\n");
}

#[test]
fn each_key_tells_where_it_comes_from() {
    let home = Home::new();
    home.configure(
        "defaults:\n  keep: 14d\n  timeout: 30s\naccounts:\n  home:\n    host: h\n    user: u\n    timeout: 5s\n    password: \
         hush\n    deliver: { maildir: ~/Mail }\n",
    );
    let shown = home.must(&["config", "show", "--origin"], 0).stdout;
    for line in [
        "    host: h  # line 6",
        "    keep: 14d  # defaults, line 2",
        "    timeout: 5s  # line 8",
        "    password: '[secret]'  # line 9",
        "    order: oldest  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    home.configure(&shown.replace("'[secret]'", "hush"));
    assert_eq!(home.must(&["config", "show"], 0).stdout, shown_without_origins(&shown));
}

fn shown_without_origins(shown: &str) -> String {
    shown.lines().map(|line| format!("{}\n", line.split("  # ").next().unwrap())).collect()
}
