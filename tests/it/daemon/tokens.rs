//! Real Dovecot and Postfix that take tokens, which end; and TLS with an authority of one's own.

use super::authorize::{authorize_by_device, oauth_table};
use super::fake_oauth::{CLIENT_SECRET, FakeOauth, SIGNING_KEY};
use super::mail::{proven, wait_for_mailbox};
use super::process::{Installation, PATIENCE};
use crate::peers::{self, Dovecot, Postfix, dovecot, wait_until};

fn mail(number: usize) -> Vec<u8> {
    let from = format!("c{number}@customer.example");
    proven(
        &from,
        "Hello",
        &format!("n-{number}"),
        "",
        &format!("mail {number}"),
    )
}

/// Seconds that a token lives: Dovecot counts in whole ones.
const LIFETIME_SECONDS: u64 = 5;

#[test]
fn a_mailbox_whose_tokens_end_every_few_seconds_loses_and_doubles_nothing() {
    if !peers::enabled() {
        return;
    }
    assert_eq!(SIGNING_KEY, dovecot::TOKEN_KEY);
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let runtime = super::own_runtime();
    let oauth = runtime.block_on(FakeOauth::start("support@shop.example"));
    oauth.set(|options| options.lifetime_seconds = LIFETIME_SECONDS);
    let daemon = Installation::new(&format!(
        "[queues.frontline]\n[channels.support-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
         address = \"support@shop.example\"\nauthserv_id = \"mx.shop.example\"\npoll_interval = \"1s\"\n\
         imap = {{ host = \"127.0.0.1\", port = {}, tls = \"none\" }}\n\
         smtp = {{ host = \"127.0.0.1\", port = {}, tls = \"none\", user = \"support@shop.example\" }}\n{}",
        dovecot.imap_port,
        postfix.smtp_port,
        oauth_table(&oauth)
    ));
    std::fs::write(daemon.dir.path().join("oauth-secret"), CLIENT_SECRET).unwrap();
    authorize_by_device(&daemon, &oauth);
    daemon.run();
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    let renewals = || {
        let forms = oauth.forms();
        forms
            .iter()
            .filter(|form| form["grant_type"] == "refresh_token")
            .count()
    };
    let mut sent = 0;
    while renewals() < 3 {
        dovecot.deliver("support", &mail(sent));
        sent += 1;
        wait_until("the mail to be filed", PATIENCE, || {
            daemon.conversations(&token).len() == sent
        });
        // The server ends a session by itself, too: its token may be over by then.
        if sent % 5 == 0 {
            dovecot.force_reconnect("support");
        }
    }
    let claimed = daemon.claim(&token, "frontline").expect("a mail");
    let reply = daemon.reply(
        &token,
        claimed["id"].as_str().unwrap(),
        "k-1",
        "Hello to you.",
    );
    daemon.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent");
    for conversation in daemon.conversations(&token) {
        let messages = daemon.messages(&token, conversation["id"].as_str().unwrap());
        let inbound = messages
            .iter()
            .filter(|message| message["author"] == "customer");
        assert!(
            inbound.count() <= 1 && messages.len() <= 2,
            "each mail once"
        );
    }
    assert_eq!(daemon.conversations(&token).len(), sent);
    let log = std::fs::read_to_string(dovecot.directory().join("dovecot.log")).unwrap();
    let by_token = log.lines().filter(|line| line.contains("method=XOAUTH2"));
    assert!(by_token.count() >= 3, "{log}");
}

/// A mail channel at Dovecot over TLS, trusting the test authority or nobody but the public ones.
fn over_tls(dovecot: &Dovecot, tls: &str, port: u16, is_trusted: bool) -> Installation {
    let ca = match is_trusted {
        true => format!(
            "ca_file = \"{}\"\n",
            dovecot.certificate.authority.display()
        ),
        false => String::new(),
    };
    Installation::start(&format!(
        "[queues.frontline]\n[channels.support-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
         address = \"support@shop.example\"\nauthserv_id = \"mx.shop.example\"\n{ca}\
         imap = {{ host = \"localhost\", port = {port}, tls = \"{tls}\", user = \"support\", password = {{ file = \"{{dir}}/mail-password\" }} }}\n\
         smtp = {{ host = \"127.0.0.1\", port = 9, tls = \"none\" }}\n"
    ))
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named_and_only_there() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    for (round, (tls, port)) in [
        ("starttls", dovecot.imap_port),
        ("implicit", dovecot.imaps_port),
    ]
    .into_iter()
    .enumerate()
    {
        let daemon = over_tls(&dovecot, tls, port, true);
        wait_for_mailbox(&daemon);
        dovecot.deliver("support", &mail(round));
        let token = daemon.token("ada");
        assert!(daemon.claim(&token, "frontline").is_some(), "{tls}");

        let daemon = over_tls(&dovecot, tls, port, false);
        wait_until("the certificate to be refused", PATIENCE, || {
            let (state, reason) = daemon.channel_state("support-mail");
            state == "unreachable" && reason.contains("certificate")
        });
    }
}
