use super::*;
use crate::token::{Cloud, Grant};

/// `error`, number, class, and a word of the remedy that tells this row from its neighbours.
const EXPECTED: &[(&str, u32, Class, &str)] = &[
    ("temporarily_unavailable", 0, Retry, "by itself"),
    ("server_error", 0, Retry, "by itself"),
    ("temporarily_unavailable", 7_000_215, Retry, "by itself"),
    ("invalid_grant", 50033, Retry, "by itself"),
    ("invalid_grant", 50087, Retry, "by itself"),
    ("invalid_request", 90006, Retry, "by itself"),
    ("invalid_request", 90012, Retry, "by itself"),
    ("invalid_request", 90024, Retry, "by itself"),
    ("invalid_request", 90033, Retry, "by itself"),
    ("invalid_request", 90055, Retry, "by itself"),
    ("invalid_grant", 80002, Retry, "agents"),
    ("invalid_grant", 80005, Retry, "agents"),
    ("invalid_grant", 50196, SlowDown, "another program"),
    ("authorization_pending", 0, KeepPolling, "enter the code"),
    ("authorization_pending", 70016, KeepPolling, "enter the code"),
    ("slow_down", 0, KeepPolling, "enter the code"),
    ("invalid_client", 7_000_215, AppConfiguration, "column Value (not Secret ID)"),
    ("invalid_client", 7_000_222, AppConfiguration, "az ad app credential reset --id 11111111"),
    ("invalid_client", 700_027, AppConfiguration, "Upload certificate"),
    ("invalid_client", 700_024, AppConfiguration, "timedatectl"),
    ("unauthorized_client", 700_016, AppConfiguration, "adminconsent?client_id=11111111"),
    ("invalid_client", 7_000_229, AppConfiguration, "az ad sp create --id 11111111"),
    ("invalid_grant", 50105, AppConfiguration, "assign scanner@contoso.com"),
    ("invalid_grant", 501_051, AppConfiguration, "assign scanner@contoso.com"),
    ("invalid_client", 700_025, AppConfiguration, "device code"),
    ("invalid_request", 900_382, AppConfiguration, "gcc-high"),
    ("invalid_request", 900_432, AppConfiguration, "gcc-high"),
    ("invalid_request", 90038, AppConfiguration, "gcc-high"),
    ("invalid_request", 900_023, AppConfiguration, "a domain of the tenant"),
    ("unauthorized_client", 7_000_112, AppConfiguration, "Enabled for users to sign-in"),
    ("invalid_client", 7_000_218, AppConfiguration, "Allow public client flows"),
    ("invalid_request", 90002, AppConfiguration, "Directory (tenant) ID"),
    ("invalid_resource", 500_011, AppConfiguration, "exchange online"),
    ("invalid_resource", 650_052, AppConfiguration, "exchange online"),
    ("invalid_resource", 650_057, AppConfiguration, "exchange online"),
    ("invalid_resource", 0, AppConfiguration, "exchange online"),
    ("invalid_grant", 65001, AppConfiguration, "contoso.com/adminconsent"),
    ("consent_required", 0, AppConfiguration, "contoso.com/adminconsent"),
    ("invalid_scope", 70011, AppConfiguration, "remove scope"),
    ("invalid_scope", 0, AppConfiguration, "remove scope"),
    ("invalid_client", 0, AppConfiguration, "compare tenant"),
    ("unauthorized_client", 0, AppConfiguration, "compare tenant"),
    ("invalid_request", 0, AppConfiguration, "compare tenant"),
    ("unsupported_grant_type", 0, AppConfiguration, "compare tenant"),
    ("interaction_required", 53003, Policy, "exclude scanner@contoso.com alone"),
    ("interaction_required", 530_032, Policy, "exclude scanner@contoso.com alone"),
    ("invalid_grant", 53000, Policy, "exclude the application 11111111"),
    ("invalid_grant", 53001, Policy, "exclude the application 11111111"),
    ("invalid_grant", 53002, Policy, "exclude the application 11111111"),
    ("invalid_grant", 53004, Policy, "exclude the application 11111111"),
    ("invalid_grant", 530_034, Policy, "exclude the application 11111111"),
    ("access_denied", 530_035, Policy, "client credentials with a certificate"),
    ("interaction_required", 0, Policy, "mailferry account login"),
    ("invalid_grant", 50034, User, "Get-Mailbox scanner@contoso.com"),
    ("invalid_grant", 50053, User, "old password"),
    ("invalid_grant", 50055, User, "set a new password"),
    ("invalid_grant", 50057, User, "Account enabled"),
    ("invalid_grant", 50126, User, "right password"),
    ("interaction_required", 50076, User, "complete it in the browser"),
    ("interaction_required", 50072, User, "complete it in the browser"),
    ("invalid_grant", 50074, User, "complete it in the browser"),
    ("interaction_required", 50078, User, "complete it in the browser"),
    ("interaction_required", 50079, User, "complete it in the browser"),
    ("authorization_declined", 0, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("access_denied", 0, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("expired_token", 0, SignInAgain, "15 minutes"),
    ("expired_token", 70019, SignInAgain, "15 minutes"),
    ("expired_token", 70020, SignInAgain, "15 minutes"),
    ("bad_verification_code", 0, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("not_signed_in", 0, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("invalid_grant", 0, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("login_required", 0, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("invalid_grant", 70008, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("invalid_grant", 700_082, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("invalid_grant", 50173, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("invalid_grant", 70043, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("invalid_grant", 50132, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("invalid_grant", 50133, SignInAgain, "mailferry account login scanner@contoso.com"),
    ("brand_new", 0, AppConfiguration, "the entry names the cause"),
    ("brand_new", 4_711, AppConfiguration, "error?code=4711"),
];

fn settings() -> Settings {
    Settings {
        mailbox: "scanner@contoso.com".parse().unwrap(),
        cloud: Cloud::Global,
        tenant: "contoso.com".into(),
        client_id: "11111111-2222-3333-4444-555555555555".into(),
        authority: None,
        token_url: None,
        scope: None,
        grant: Grant::Secret("x".into()),
        secret_expires: None,
        ca_file: None,
        proxy: None,
    }
}

fn number(n: u32) -> Option<u32> {
    (n != 0).then_some(n)
}

#[test]
fn each_refusal_is_classified_and_has_its_remedy() {
    for (error, n, class, word) in EXPECTED {
        let r = Refusal::new(error, number(*n), "");
        assert_eq!(r.class(), *class, "{error} {n}");
        let text = r.remedy(&settings()).join("\n");
        assert!(text.contains(word), "{error} {n}: {text}");
        assert!(
            !text.contains(['{', '}']) && !r.meaning(&settings()).contains(['{', '}']),
            "{error} {n}: {text}"
        );
    }
}

#[test]
fn no_row_is_without_a_test() {
    for r in TABLE {
        for n in r.numbers {
            assert!(EXPECTED.iter().any(|e| e.1 == *n), "AADSTS{n}");
        }
        for e in r.errors {
            assert!(EXPECTED.iter().any(|x| x.0 == *e && x.1 == 0), "{e}");
        }
    }
}

#[test]
fn no_number_and_no_error_stands_twice() {
    let mut numbers: Vec<u32> = TABLE.iter().flat_map(|r| r.numbers).copied().collect();
    let mut errors: Vec<&str> = TABLE.iter().flat_map(|r| r.errors).copied().collect();
    let (n, e) = (numbers.len(), errors.len());
    numbers.sort_unstable();
    numbers.dedup();
    errors.sort_unstable();
    errors.dedup();
    assert_eq!((numbers.len(), errors.len()), (n, e));
}

#[test]
fn the_words_of_the_service_are_printed_escaped_and_whole() {
    let r = Refusal::new("invalid_client", Some(7_000_215), "AADSTS7000215: Invalid\r\nroot logged in");
    assert_eq!(r.to_string(), "invalid_client: AADSTS7000215: Invalid\\r\\nroot logged in");
    assert_eq!(Refusal::new("slow_down", None, "").to_string(), "slow_down");
    assert_eq!(Refusal::new("x", Some(5), "y").to_string(), "x: AADSTS5: y");
}
