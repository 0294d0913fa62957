//! Servers that refuse a log-in for another reason than the password, each in words of its own.

use crate::support::mails;
use crate::support::postrider::Home;
use crate::support::proxies::NginxDovecot;
use crate::support::real_server::{RealServer, Way};
use crate::support::solid_pop3d::SolidPop3d;

fn home(server: &impl RealServer, (port, tls): Way) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {port}\n    tls: {tls}\n    auth: [user-pass]\n    user: {}\n    \
         password: {}\n    deliver: {{ maildir: ~/Mail }}\n",
        server.user(),
        server.password()
    ));
    home
}

#[test]
fn a_lock_of_a_local_delivery_is_no_wrong_password() {
    let server = SolidPop3d::start();
    server.put(&mails::ordinary(2));
    let home = home(&server, server.ways()[0]);
    server.lock();
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("can't lock mailbox file"), "{}", ended.stderr);
    server.unlock();
    home.must(&["sync", "--force"], 0);
    assert_eq!(home.files("Mail").len(), 2);
}

#[test]
fn a_proxy_whose_server_is_away_is_no_wrong_password() {
    let mut server = NginxDovecot::start();
    server.put(&mails::ordinary(2));
    let home = home(&server, server.ways()[0]);
    server.behind().kill();
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("server: "), "{}", ended.stderr);
    server.behind().restart();
    home.must(&["sync", "--force"], 0);
    assert_eq!(home.files("Mail").len(), 2);
}
