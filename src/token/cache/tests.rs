use super::*;

fn at(s: i64) -> RelayTime {
    RelayTime::from_ms(s * 1000)
}

fn grant(name: &str, lifetime_s: u64) -> Granted {
    Granted { access: name.into(), lifetime: Duration::from_secs(lifetime_s), refresh: None }
}

fn busy() -> Problem {
    Problem::unavailable(Fault::Busy, "the token endpoint answered 503")
}

fn with_token(name: &str) -> (Cache, AccessToken) {
    let mut c = Cache::default();
    assert!(matches!(c.ask(at(0)), Ask::Fetch));
    let t = c.fetched(grant(name, 3600), at(0));
    (c, t)
}

/// The answer in one word, with the token.
fn word(a: Ask) -> String {
    match a {
        Ask::Use(t) => format!("use {}", t.expose()),
        Ask::UseAndFetch(t) => format!("use {} and fetch", t.expose()),
        Ask::Fetch => "fetch".into(),
        Ask::Wait => "wait".into(),
        Ask::Refuse(e) => format!("refuse for {}", e.retry_in.as_secs()),
    }
}

#[test]
fn a_token_is_used_then_replaced_ahead_then_waited_for() {
    // Life 3600 s: margin 600 s, skew 300 s.
    let cases = [
        (0, "use a"),
        (2999, "use a"),
        (3000, "use a and fetch"),
        (3299, "use a and fetch"),
        (3300, "fetch"),
        (3599, "fetch"),
        (3600, "fetch"),
        (9999, "fetch"),
    ];
    for (s, expected) in cases {
        let (mut c, _) = with_token("a");
        assert_eq!(word(c.ask(at(s))), expected, "after {s} s");
    }
}

#[test]
fn a_short_lived_token_has_short_margins() {
    let mut c = Cache::default();
    c.ask(at(0));
    c.fetched(grant("a", 60), at(0));
    assert_eq!(word(c.ask(at(47))), "use a");
    assert_eq!(word(c.ask(at(48))), "use a and fetch");
}

#[test]
fn one_request_at_a_time() {
    let mut c = Cache::default();
    assert_eq!(word(c.ask(at(0))), "fetch");
    assert_eq!(word(c.ask(at(0))), "wait");
    c.fetched(grant("a", 3600), at(0));
    assert_eq!(word(c.ask(at(3000))), "use a and fetch");
    assert_eq!(word(c.ask(at(3001))), "use a");
    assert_eq!(word(c.ask(at(3300))), "wait");
    c.fetched(grant("b", 3600), at(3000));
    assert_eq!(word(c.ask(at(3300))), "use b");
}

#[test]
fn while_the_endpoint_is_down_the_token_is_used_to_its_real_end() {
    let (mut c, _) = with_token("a");
    assert_eq!(word(c.ask(at(3000))), "use a and fetch");
    assert_eq!(c.failed(busy(), at(3001), 0.5).retry_in.as_secs(), 5);
    assert_eq!(word(c.ask(at(3002))), "use a");
    assert_eq!(word(c.ask(at(3006))), "use a and fetch");
    c.failed(busy(), at(3007), 0.5);
    assert_eq!(word(c.ask(at(3400))), "use a and fetch");
    c.failed(busy(), at(3430), 0.5);
    assert_eq!(word(c.ask(at(3599))), "use a and fetch");
    c.failed(busy(), at(3599), 0.5);
    assert_eq!(word(c.ask(at(3600))), "refuse for 39", "at its end there is none");
    assert_eq!(word(c.ask(at(3639))), "fetch");
    c.fetched(grant("b", 3600), at(3639));
    assert_eq!(word(c.ask(at(3640))), "use b");
    assert!(c.trouble(at(3640)).is_none());
}

#[test]
fn pauses_grow_with_the_class_of_the_refusal() {
    let refused = |error: &str, number| Problem::Refused {
        refusal: crate::token::refusal::Refusal::new(error, number, ""),
        retry_after: None,
    };
    let cases: [(Problem, &[u64]); 6] = [
        (busy(), &[5, 10, 20, 40, 60, 120, 300, 600, 900, 900]),
        (refused("temporarily_unavailable", None), &[5, 10, 20]),
        (refused("invalid_request", Some(50196)), &[300, 900, 1800, 1800]),
        (refused("invalid_client", Some(7_000_215)), &[60, 300, 900, 1800, 1800]),
        (refused("interaction_required", Some(53003)), &[60, 300]),
        (refused("invalid_grant", None), &[60, 60]),
    ];
    for (problem, delays) in cases {
        let mut c = Cache::default();
        let mut now = at(0);
        for d in delays {
            assert_eq!(word(c.ask(now)), "fetch", "{problem:?}");
            let e = c.failed(problem.clone(), now, 0.5);
            assert_eq!(e.retry_in.as_secs(), *d, "{problem:?}");
            assert_eq!(word(c.ask(now)), format!("refuse for {d}"));
            now = now + e.retry_in;
        }
    }
}

#[test]
fn passing_faults_follow_the_accounts_delays() {
    let mut c = Cache::default();
    c.set_delays(&[1, 7].map(Duration::from_secs));
    let mut now = at(0);
    for d in [1, 7, 7] {
        assert_eq!(word(c.ask(now)), "fetch");
        let e = c.failed(busy(), now, 0.5);
        assert_eq!(e.retry_in.as_secs(), d);
        now = now + e.retry_in;
    }
}

#[test]
fn retry_after_is_kept_and_never_shortens_our_own_pause() {
    for (asked, waited) in [(120, 120), (1, 5)] {
        let mut c = Cache::default();
        c.ask(at(0));
        let p = Problem::Unavailable {
            fault: Fault::Busy,
            said: "429".into(),
            retry_after: Some(Duration::from_secs(asked)),
        };
        assert_eq!(c.failed(p, at(0), 0.5).retry_in.as_secs(), waited);
    }
}

#[test]
fn after_a_refused_login_there_is_one_new_token_then_a_hold() {
    let (mut c, a) = with_token("a");
    assert!(c.invalidate(&a), "a new one is worth a try");
    assert_eq!(word(c.ask(at(10))), "fetch");
    let b = c.fetched(grant("b", 3600), at(10));
    assert!(!c.invalidate(&b), "the second refusal is not about the token");
    // The account is held; each probe of the hold brings one token and one login.
    assert_eq!(word(c.ask(at(70))), "fetch");
    let probe = c.fetched(grant("c", 3600), at(70));
    assert!(!c.invalidate(&probe));
    // Mended: the next token is an ordinary one again.
    assert_eq!(word(c.ask(at(370))), "fetch");
    c.fetched(grant("d", 3600), at(370));
    assert_eq!(word(c.ask(at(3400))), "use d and fetch");
    let e = c.fetched(grant("e", 3600), at(3400));
    assert!(c.invalidate(&e));
}

#[test]
fn a_late_refusal_of_an_old_token_does_not_cost_the_new_one() {
    let (mut c, a) = with_token("a");
    let also_a = a.clone();
    assert!(c.invalidate(&a));
    c.ask(at(1));
    c.fetched(grant("b", 3600), at(1));
    assert!(c.invalidate(&also_a), "another connection's refusal of the same token: there is a newer one");
    assert_eq!(word(c.ask(at(2))), "use b");
}

#[test]
fn an_admin_who_mended_it_does_not_wait() {
    let mut c = Cache::default();
    c.ask(at(0));
    c.failed(busy(), at(0), 0.5);
    assert_eq!(word(c.ask(at(1))), "refuse for 4");
    c.probe(at(1));
    assert_eq!(word(c.ask(at(1))), "fetch");
}

#[test]
fn five_thousand_messages_over_ten_lifetimes_cost_about_one_request_a_lifetime() {
    const MESSAGES: i64 = 5000;
    const LIFETIME_S: i64 = 3600;
    let mut c = Cache::default();
    let (mut requests, mut waited) = (0, 0);
    let mut done_at = None;
    for i in 0..MESSAGES {
        let now = RelayTime::from_ms(i * 10 * LIFETIME_S * 1000 / MESSAGES);
        // A request takes a second: it is done by the next message, 7.2 s later.
        if let Some(asked_at) = done_at.take() {
            c.fetched(grant("t", 3600), asked_at);
        }
        match c.ask(now) {
            Ask::Use(_) => {}
            Ask::UseAndFetch(_) => {
                requests += 1;
                done_at = Some(now);
            }
            Ask::Fetch => {
                requests += 1;
                waited += 1;
                c.fetched(grant("t", 3600), now);
            }
            other => panic!("{other:?}"),
        }
    }
    eprintln!(
        "token requests for {MESSAGES} messages over 10 lifetimes: {requests}; messages that waited: {waited}"
    );
    assert_eq!((requests, waited), (12, 1));
}

#[test]
fn debug_shows_no_token() {
    let (c, t) = with_token("hunter2");
    assert!(!format!("{c:?}{t:?}").contains("hunter2"));
}
