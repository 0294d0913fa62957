//! `postrider account`, on a real PostgreSQL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::postgres::Postgres;
use crate::support::postrider::Home;

struct Office {
    home: Home,
    database: String,
}

impl Office {
    fn new() -> Self {
        let url = Postgres::shared().database();
        let office = Self { home: Home::new(), database: url.rsplit('/').next().unwrap().to_owned() };
        for (name, octet) in [("old", 1), ("new", 2)] {
            office.home.write(name, &format!("{}\n", STANDARD.encode([octet; 32])));
        }
        office.keys("{ file: ~/old }", &url);
        office
    }

    fn keys(&self, keys: &str, url: &str) {
        self.home.configure(&format!(
            "state: {{ postgres: {{ url: '{url}', secrets_key: {keys} }} }}\n\
             fleet: {{ targets: {{ desk: {{ http: {{ url: https://desk.example.org }} }} }}, providers: {{ google: {{ provider: \
             google, client_id: ID }} }} }}\n"
        ));
    }

    fn url(&self) -> String {
        Postgres::shared().url(&self.database)
    }

    /// Adds accounts from lines; gives what is said.
    fn import(&self, lines: &str, status: i32) -> (String, String) {
        self.home.write("rows", lines);
        let ended = self.home.must(&["account", "import", "rows"], status);
        (ended.stdout, ended.stderr)
    }

    fn asked(&self, sql: &str) -> String {
        Postgres::shared().execute(&self.database, sql)
    }

    fn says(&self, arguments: &[&str]) -> String {
        self.home.must(arguments, 0).stdout
    }
}

const ALICE: &str = "{ host: POP.example.org, user: alice, password: hunter2-alice, keep: 14d }";

#[test]
fn an_account_is_added_with_its_secret_sealed_shown_without_it_and_removed() {
    let office = Office::new();
    office.home.write("alice", ALICE);
    assert_eq!(office.says(&["account", "add", "acme/alice", "alice"]), "acme/alice: added\n");
    let row = office.asked(
        "SELECT tenant, name, maildrop, host, config, enabled, revision, secret, secret_key FROM account",
    );
    assert!(
        row.starts_with(
            "acme|alice|acme/alice@pop.example.org|pop.example.org|{\"host\": \"POP.example.org\""
        ),
        "{row}"
    );
    assert!(!row.contains("hunter2") && row.contains("|t|1|\\x"), "{row}");
    let again = office.home.must(&["account", "add", "acme/alice", "alice"], 2).stderr;
    assert!(again.contains("--replace"), "{again}");
    let shown = office.says(&["account", "show", "acme/alice"]);
    for words in [
        "# enabled, revision 1, its secret sealed with key 72cd6e8422c407fb",
        "keep: 14d",
        "http: {",
        "acme/alice",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(office.says(&["account", "check"]), "1 account sound, 0 wrong\n");
    let listed = office.says(&["account", "list"]);
    assert!(
        listed.contains("acme/alice") && listed.contains("enabled  alice at pop.example.org"),
        "{listed}"
    );
    office.says(&["account", "disable", "acme/alice"]);
    let listed = office.says(&["account", "list", "--json", "--tenant", "acme"]);
    assert!(listed.contains("\"enabled\":false") && listed.contains("\"revision\":2"), "{listed}");
    office.says(&["account", "enable", "acme/alice"]);
    // Without a password it keeps the one that it has.
    office
        .home
        .write("alice", "{ host: pop.example.net, user: alice, maildrop: acme/alice@pop.example.org }");
    assert_eq!(
        office.says(&["account", "add", "--replace", "acme/alice", "alice"]),
        "acme/alice: written anew\n"
    );
    assert_eq!(office.says(&["account", "check", "acme/alice"]), "1 account sound, 0 wrong\n");
    assert_eq!(office.asked("SELECT host, revision FROM account"), "pop.example.net|4");
    assert_eq!(office.says(&["account", "remove", "acme/alice"]), "acme/alice: removed\n");
    let gone = office.home.must(&["account", "remove", "acme/alice"], 2).stderr;
    assert!(gone.contains("no account \"acme/alice\" in the table account"), "{gone}");
}

#[test]
fn what_is_wrong_with_a_line_is_told_and_the_others_are_added() {
    let office = Office::new();
    let lines = concat!(
        "{\"tenant\": \"acme\", \"name\": \"alice\", \"host\": \"pop.example.org\", \"user\": \"alice\", \"password\": \"hunter2-a\"}\n",
        "{\"tenant\": \"acme\", \"name\": \"evil\", \"host\": \"h\", \"user\": \"u\", \"password\": \"hunter2-b\", \"connect\": \"nc\"}\n",
        "\n",
        "hunter2-c\n",
        "{\"tenant\": \"acme\", \"name\": \"bob\", \"host\": \"pop.example.org\", \"user\": \"bob\", \"oauth2\": {\"provider\": \"google\"}, \"refresh_token\": \"hunter2-d\"}\n",
        "{\"tenant\": \"acme\", \"name\": \"twin\", \"host\": \"pop.example.org\", \"user\": \"alice\", \"password\": \"hunter2-e\"}\n",
    );
    let (out, told) = office.import(lines, 78);
    assert_eq!(out, "2 accounts added, 0 there already, 3 refused\n");
    assert!(told.contains("acme/evil:1:") && told.contains(": connect: is not for a row to say"), "{told}");
    assert!(told.contains("rows:4:1:1: must be a mapping of account keys, not a text"), "{told}");
    assert!(told.contains("account acme/twin: account acme/alice has the same maildrop"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let (out, _) = office.import(lines.lines().next().unwrap(), 0);
    assert_eq!(out, "0 accounts added, 1 there already, 0 refused\n");
    // What somebody wrote there by hand.
    office.asked("UPDATE account SET config = '{\"host\": \"h\", \"user\": \"u\", \"hooks\": {\"before\": \"id\"}}' WHERE name = 'bob'");
    let told = office.home.must(&["account", "check"], 78);
    assert_eq!(told.stdout, "1 account sound, 1 wrong\n");
    assert!(
        told.stderr.contains("account acme/bob:1:") && told.stderr.contains("hooks.before: is not for a row"),
        "{}",
        told.stderr
    );
    let listed = office.says(&["account", "list"]);
    assert!(listed.contains("acme/bob") && listed.contains("wrong"), "{listed}");
}

#[test]
fn a_line_that_is_too_long_or_no_text_is_one_wrong_line() {
    let office = Office::new();
    let row = |name: &str, user: &[u8]| {
        let begin = format!(
            "{{\"tenant\": \"acme\", \"name\": \"{name}\", \"host\": \"h.example.org\", \"password\": \"x\", \"user\": \""
        );
        [begin.as_bytes(), user, b"\"}"].concat()
    };
    // What follows the first 128 KiB would be an account of its own.
    let mut forged = row("long", &[]);
    forged.truncate(forged.len() - 2);
    forged.resize(128 * 1024, b'a');
    forged.extend(row("injected", b"injected"));
    let lines = [row("odd", b"\xff\xfe"), forged, row("alice", b"alice"), b"{\"tenant\": \"acme\"}".to_vec()];
    std::fs::write(office.home.path("rows"), lines.join(&b'\n')).unwrap();
    let ended = office.home.must(&["account", "import", "rows"], 78);
    assert_eq!(ended.stdout, "1 account added, 0 there already, 3 refused\n");
    for words in ["rows:1: is not UTF-8", "rows:2: is longer than 128 KiB", "rows:4: "] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!(office.asked("SELECT name FROM account"), "alice");
    // It is not in the file, and polled all the same.
    let told = office.home.must(&["sync"], 2).stderr;
    assert!(told.contains("have to be named: TENANT/NAME"), "{told}");
}

#[test]
fn secrets_are_sealed_anew_with_the_first_key_and_a_missing_key_is_one_clear_error() {
    let office = Office::new();
    office.home.write("alice", ALICE);
    office.says(&["account", "add", "acme/alice", "alice"]);
    office.keys("{ file: ~/new }", &office.url());
    let told = office.home.must(&["account", "check"], 78).stderr;
    let missing = "account acme/alice: the secret is sealed with the key 72cd6e8422c407fb, which is not in `secrets_key`";
    assert!(told.contains(missing), "{told}");
    office.keys("[{ file: ~/new }, { file: ~/old }]", &office.url());
    assert!(office.says(&["account", "rekey"]).starts_with("1 secret sealed with key "));
    assert!(
        office.says(&["account", "rekey"]).starts_with("0 secrets sealed with key "),
        "it is done already"
    );
    office.keys("{ file: ~/new }", &office.url());
    assert_eq!(office.says(&["account", "check"]), "1 account sound, 0 wrong\n");
    // Copied into another row it opens nowhere.
    office.asked("INSERT INTO account SELECT id + 1, tenant, 'thief', 'm', host, config, secret, secret_key FROM account");
    let told = office.home.must(&["account", "check"], 78).stderr;
    assert!(told.contains("account acme/thief: the sealed secret does not open"), "{told}");
    office.home.write("new", "no key\n");
    let told = office.home.must(&["account", "check"], 78).stderr;
    assert!(told.contains("cannot use key 1 of `secrets_key`: it must be 32 octets in base64"), "{told}");
}

#[test]
fn a_key_that_is_not_there_or_none_is_the_configurations_fault_and_config_check_says_so() {
    let office = Office::new();
    for (name, content) in [("empty", ""), ("short", "c2hvcnQ=\n")] {
        office.home.write(name, content);
    }
    for (keys, told, checked) in [
        ("{ file: ~/none }", "cannot read a key of `secrets_key` from ", "none is not there"),
        (
            "{ file: ~/empty }",
            "there is no key of `secrets_key` in ",
            "empty holds no key: it must be 32 octets",
        ),
        ("[{ file: ~/new }, { file: ~/short }]", "cannot use key 2 of `secrets_key`", "short holds no key"),
        ("c2hvcnQ=", "cannot use key 1 of `secrets_key`", "is no key: it must be 32 octets in base64"),
        ("{ env: NO_SUCH_KEY }", "NO_SUCH_KEY is not set", "is no key"),
    ] {
        office.keys(keys, &office.url());
        for arguments in [&["account", "list"][..], &["sync", "acme/alice"], &["daemon"], &["status"]] {
            let ended = office.home.must(arguments, 78);
            assert!(ended.stderr.contains(told), "{keys} {arguments:?}: {}", ended.stderr);
        }
        let ended = office.home.must(&["config", "check"], 0);
        assert!(ended.stderr.contains(checked), "{keys}: {}", ended.stderr);
    }
    office.keys("{ command: 'exit 3' }", &office.url());
    for arguments in [&["account", "list"][..], &["daemon"]] {
        office.home.must(arguments, 75);
    }
    office.keys("{ file: ~/new }", &office.url());
    let ended = office.home.must(&["config", "check"], 0);
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("those of tenants are in the table account, which was not asked"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_view_that_is_not_there_or_lacks_a_column_is_told_as_such() {
    let office = Office::new();
    office.says(&["account", "list"]);
    let place = "config/postrider/config.yaml";
    let config = std::fs::read_to_string(office.home.path(place)).unwrap();
    office.home.write(place, &config.replace("fleet: {", "fleet: { accounts: boxes,"));
    let told = office.home.must(&["account", "list"], 75).stderr;
    assert!(told.contains("check `accounts` under `fleet:`"), "{told}");
    office.asked("CREATE VIEW boxes AS SELECT id, tenant, name, config, enabled, revision FROM account");
    let told = office.home.must(&["account", "list"], 75).stderr;
    assert!(told.contains("column \"maildrop\" does not exist"), "{told}");
    assert!(
        told.contains(
            "must have id, tenant, name, maildrop, config, secret, secret_key, enabled and revision"
        ),
        "{told}"
    );
}

#[test]
fn what_can_be_seen_to_be_wrong_is_refused_before_it_is_in_the_table() {
    let office = Office::new();
    let lines = [
        r#"{"tenant": "acme", "name": "empty", "host": "h", "user": "u", "password": ""}"#,
        r#"{"tenant": "acme", "name": "here", "host": "127.0.0.1", "user": "u", "password": "x"}"#,
        r#"{"tenant": "acme", "name": "fine", "host": "h", "user": "u", "password": "x"}"#,
    ];
    let (done, told) = office.import(&lines.join("\n"), 78);
    assert!(done.starts_with("1 account added, 0 there already, 2 refused"), "{done}");
    assert!(told.contains("rows:1:") && told.contains("password: is empty"), "{told}");
    assert!(told.contains("rows:2") && told.contains("host: is loopback, private or link-local"), "{told}");
    office.asked("UPDATE account SET config = replace(config, '\"h\"', '\"10.0.0.1\"')");
    let told = office.home.must(&["account", "check"], 78).stderr;
    assert!(told.contains("acme/fine") && told.contains("host: is loopback, private"), "{told}");
    office.asked("UPDATE account SET config = replace(config, '10.0.0.1', 'h')");
    let twin = r#"{"tenant": "acme", "name": "twin", "host": "h", "user": "u", "password": "x"}"#;
    assert!(office.import(twin, 78).1.contains("has the same maildrop"));
    office.home.write("twin", r#"{"host": "h", "user": "v", "password": "x"}"#);
    office.says(&["account", "add", "acme/twin", "twin"]);
    office.asked("UPDATE account SET maildrop = (SELECT maildrop FROM account WHERE name = 'fine')");
    let unpolled =
        office.asked("SELECT name FROM account WHERE name IN ('fine', 'twin') ORDER BY id DESC LIMIT 1");
    let told = office.home.must(&["account", "check"], 78).stderr;
    assert!(told.contains(&format!("account acme/{unpolled}: another row has the same maildrop")), "{told}");
}

#[test]
fn without_a_database_there_is_no_table() {
    let home = Home::new();
    home.configure("accounts: { a: { host: h, user: u, deliver: { maildir: /m } } }");
    let told = home.must(&["account", "list"], 78).stderr;
    assert!(told.contains("there is no table of accounts: the state is a file"), "{told}");
}
