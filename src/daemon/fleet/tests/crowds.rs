//! Workers that have more to do than places, or whom the database or a host refuses something.

use std::path::Path;

use super::*;
use crate::config::Config;

const FREE: &str = "SELECT count(*) FROM lease WHERE token = 0 AND due > now() + interval '5 s'";

impl Site {
    /// Has these many accounts of these tenants at these hosts.
    fn of(parts: &[(usize, &str, &str)]) -> Self {
        let mut site = Self::new(parts.iter().map(|(count, ..)| count).sum());
        let of = parts.iter().flat_map(|(count, host, tenant)| vec![(host, tenant); *count]);
        for (number, (account, (host, tenant))) in site.accounts.iter_mut().zip(of).enumerate() {
            let (host, name) = ((*host).to_owned(), format!("{tenant}/{number}"));
            let maildrop_id = format!("{number}@{host}");
            *account = Arc::new(Account { maildrop_id, host, name, ..Account::clone(account) });
        }
        site
    }

    async fn becomes(&self, sql: &str, expected: &str) {
        for _ in 0..100 {
            if self.execute(sql) == expected {
                return;
            }
            sleep(SECOND / 10).await;
        }
        panic!("{sql}: {}", self.execute(sql));
    }

    async fn sees(&self, is_so: impl Fn(&World) -> bool) {
        for _ in 0..600 {
            if is_so(&lock(&self.world)) {
                return;
            }
            sleep(SECOND / 10).await;
        }
        panic!("not seen: {:?}", lock(&self.world).tenants);
    }
}

#[tokio::test]
async fn limits_of_hosts_shares_probes_and_turns_hold_for_a_worker_at_work() {
    let mut site = Site::of(&[
        (30, "limited", "a"),
        (40, "dead", "b"),
        (150, "large", "many"),
        (150, "other", "others"),
        (2, "large", "few"),
    ]);
    let yaml = "hosts: { limited: { max_sessions: 2 } }\naccounts: { a: { host: h, user: u, password: p, deliver: { maildir: /m } } }";
    let hosts = Config::from_yaml(yaml, Path::new("config.yaml")).unwrap().hosts;
    // Each host but the limited one wants more than all of the places.
    (site.limits, site.takes) = (Limits { sessions: 12, hosts, ..limits() }, SECOND / 5);
    let mut warm = HashMap::new();
    let watch = async {
        site.sees(|world| !world.away.is_empty() && world.tenants.len() == 5).await;
        {
            let mut world = lock(&site.world);
            warm = world.tenants.clone();
            world.hosts.values_mut().for_each(|(running, most)| *most = *running);
        }
        site.sees(|world| world.tenants["few"] >= warm["few"] + 6 && world.tenants["a"] >= warm["a"] + 4)
            .await;
    };
    tokio::select! {
        () = site.work() => {}
        () = watch => {}
    }
    let world = lock(&site.world);
    let most = |host: &str| world.hosts[host].1;
    assert!((1..=2).contains(&most("limited")), "{:?}", world.hosts);
    assert!(most("dead") <= 2, "{:?}", world.hosts);
    // What begins between the end of one and the other's turn may be one more.
    assert!((3..=7).contains(&most("large")) && (3..=7).contains(&most("other")), "{:?}", world.hosts);
    assert!(world.away.iter().eq(["dead"]), "{:?}", world.away);
    let polls = |tenant: &str| world.tenants[tenant] - warm[tenant];
    assert!(polls("few") / 2 > polls("many") / 150, "{:?}, before: {warm:?}", world.tenants);
    assert_eq!(world.overlaps, 0);
}

#[tokio::test]
async fn a_statement_that_is_refused_holds_up_no_eviction() {
    let site = Site::new(3);
    let mut dead = site.worker();
    for _ in 0..3 {
        dead.begin().await.unwrap();
    }
    drop(dead);
    site.execute("ALTER TABLE lease ADD CONSTRAINT refused CHECK (token = 0) NOT VALID");
    tokio::select! {
        () = site.work() => {}
        () = site.becomes("SELECT count(*) FROM lease WHERE token = 0", "3") => {}
    }
    assert_eq!(site.execute("SELECT count(*) FROM worker WHERE evicted"), "1");
}

#[tokio::test]
async fn whoever_takes_over_from_a_killed_worker_leaves_its_server_alone_as_long_as_it_wants() {
    let site = Site::new(1);
    let mut killed = site.worker();
    let begun = killed.begin().await.unwrap();
    killed.course(&begun.session).logs_in(20 * SECOND);
    site.becomes("SELECT count(*) FROM lease WHERE log_in_at > now() + interval '10 s'", "1").await;
    drop((killed, begun));
    let mut other = site.worker();
    tokio::select! {
        _ = other.begin() => panic!("it is left alone"),
        () = site.becomes(FREE, "1") => {}
    }
    let asked = site.leases().wake(&["0@h".to_owned()]).await.unwrap();
    assert_eq!((asked, site.execute(FREE).as_str()), (1, "1"), "whoever asks");
}

#[tokio::test]
async fn what_is_added_while_a_worker_runs_is_polled_at_once() {
    let spread = Limits { startup_spread: 3600 * SECOND, ..limits() };
    let site = Site { limits: spread.clone(), ..Site::new(3) };
    let mut fleet = site.worker_of_a_table();
    let rows = |count: usize| Rows { polled: site.accounts[..count].to_vec(), ..Rows::default() };
    fleet.set_rows(rows(1));
    site.becomes("SELECT count(*) FROM lease", "1").await;
    sleep(2 * SECOND).await;
    fleet.set_rows(rows(3));
    for _ in 0..2 {
        let begin =
            tokio::time::timeout(8 * SECOND, fleet.begin()).await.expect("somebody waits for it").unwrap();
        assert_ne!(begin.account.name, "0", "that has its time");
    }
}
