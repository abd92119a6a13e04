//! What is said about a wrong configuration, word by word.

use std::path::PathBuf;

use expect_test::expect;

use super::*;

#[test]
fn a_mistyped_key_is_named_with_the_nearest_valid_one() {
    check(
        r#"
[server]
listn = "127.0.0.1:8480"

[channels.loft]
connector = "pigeon"
host = "loft.example"
quue = "frontline"
prot = 99

[joining]
windows = "1h"
"#,
        expect![[r#"
            :3: server.listn: unknown key; did you mean "listen"? (keys here: body_bytes_max, cors_origins, data_dir, listen, public_url, tls, trusted_proxies, upload_bytes_max)
            :8: channels.loft.quue: unknown key; did you mean "queue"? (keys here: acknowledge, attachment_hosts, brand, connector, host, idle, login, port, queue, secret, secrets, silent_after, tls, vouches)
            :9: channels.loft.prot: unknown key; did you mean "port"? (keys here: acknowledge, attachment_hosts, brand, connector, host, idle, login, port, queue, secret, secrets, silent_after, tls, vouches)
            :12: joining.windows: unknown key (keys here: across, apart, duplicate_window, reopen_window, unify_window)"#]],
    );
}

#[test]
fn a_key_in_the_wrong_place_is_told_its_section() {
    check(
        "listen = \"127.0.0.1:1\"\n[sever]\nport = 1\n[log]\nunify_window = \"1d\"",
        expect![[r#"
            :1: listen: unknown key; did you mean "server.listen"? (keys here: alerts, brands, bus, channels, fan_out, joining, log, queues, retention, rules, run, server, store)
            :2: sever: unknown key; did you mean "server"? (keys here: alerts, brands, bus, channels, fan_out, joining, log, queues, retention, rules, run, server, store)
            :5: log.unify_window: unknown key; did you mean "joining.unify_window"? (keys here: format, level)"#]],
    );
}

#[test]
fn wrong_types_say_what_is_wanted() {
    check(
        r#"
log = "debug"
[server]
listen = 8480
trusted_proxies = "10.0.0.0/8"
cors_origins = [1]
[run]
parts = "all"
[retention]
bus_unsafe = "yes"
raw = 30
[channels.loft]
connector = "pigeon"
host = ["a"]
port = "99"
idle = 1
vouches = "email"
[channels.kite]
connector = 5
[channels]
rope = 1
"#,
        expect![[r#"
            :2: log: expected a table, found text
            :4: server.listen: expected text, found a whole number
            :5: server.trusted_proxies: expected a list, found text; put it in brackets, as ["…"]
            :6: server.cors_origins[0]: expected text, found a whole number
            :8: run.parts: expected a list, found text; put it in brackets, as ["…"]
            :10: retention.bus_unsafe: expected true or false, found text
            :11: retention.raw: expected text, found a whole number
            :14: channels.loft.host: expected text, found a list
            :15: channels.loft.port: expected a whole number, found text
            :16: channels.loft.idle: expected true or false, found a whole number
            :17: channels.loft.vouches: expected a list, found text; put it in brackets, as ["…"]
            :19: channels.kite.connector: expected text, found a whole number
            :21: channels.rope: expected a table, found a whole number"#]],
    );
}

#[test]
fn values_that_cannot_be_read_say_what_can() {
    check(
        r#"
[server]
listen = "localhost:8480"
public_url = "support.shop.example"
trusted_proxies = ["10.0.0.0/8", "office"]
cors_origins = ["*", "https://desk.shop.example/app"]
body_bytes_max = "10M"
[joining]
unify_window = "3 days"
reopen_window = "1.5h"
across = "brnd"
[log]
level = "information"
[channels.loft]
connector = "pigeon"
host = "loft.example"
port = 70000
tls = "startls"
vouches = ["mail", "email", "email"]
acknowledge = ""
[[rules]]
tags = ["x"]
when = { language = ["german"], automatic = "no", labels = ["urgent", "urgncy:high", "spam:"] }
"#,
        expect![[r#"
            :3: server.listen: "localhost:8480" is not an address: write an IP address and a port, as "127.0.0.1:8480" or "[::]:8480"
            :4: server.public_url: this is not a URL (relative URL without a base): write it whole, as "https://support.shop.example"
            :5: server.trusted_proxies[1]: "office" is not a network: write an address or a range, as "10.0.0.0/8" or "::1"
            :6: server.cors_origins[0]: "*" would let any web page use an agent's session: name each origin
            :6: server.cors_origins[1]: "https://desk.shop.example/app" is more than an origin: write "https://desk.shop.example"
            :7: server.body_bytes_max: "10M" is not a size: write a whole number with KiB, MiB or GiB, as "10MiB"
            :9: joining.unify_window: "3 days" is not a duration: write whole numbers with a unit (w, d, h, m, s, ms), as "15m", "1h30m" or "30d"
            :10: joining.reopen_window: "1.5h" is not a duration: write whole numbers with a unit (w, d, h, m, s, ms), as "15m", "1h30m" or "30d"
            :11: joining.across: "brnd" is not one of brand, channel; did you mean "brand"?
            :13: log.level: "information" is not one of error, warn, info, debug, trace
            :17: channels.loft.port: 70000 is too large: at most 65535
            :18: channels.loft.tls: "startls" is not one of implicit, starttls; did you mean "starttls"?
            :19: channels.loft.vouches: a member stands here twice
            :19: channels.loft.vouches[0]: "mail" is not one of email, phone; did you mean "email"?
            :20: channels.loft.acknowledge: this must not be empty
            :23: rules[0].when.automatic: expected true or false, found text
            :23: rules[0].when.labels[0]: "urgent" is not a label with its value: write both, as "urgency:high"
            :23: rules[0].when.labels[1]: there is no label "urgncy"; did you mean "urgency"? (known: automatic, intent, language, sentiment, spam, urgency)
            :23: rules[0].when.labels[2]: "spam:" is not a label with its value: write both, as "urgency:high"
            :23: rules[0].when.language[0]: "german" is not a language: write its code of two letters (ISO 639-1), as "de", or "unknown""#]],
    );
}

#[test]
fn ids_have_one_form() {
    check(
        "[channels.Support_Mail]\nconnector = \"webhook\"\n[queues.\"a b\"]\n[channels.x]\nconnector = \"webhook\"\nqueue = \"A\"\nbrand = \"Ü\"",
        expect![[r#"
            :1: channels.Support_Mail: "Support_Mail" is not an id: use 1 to 64 characters of a-z, 0-9 and -
            :1: channels.Support_Mail: the key "queue" is missing, and its default "frontline" is not declared (declared: a b)
            :3: queues."a b": "a b" is not an id: use 1 to 64 characters of a-z, 0-9 and -
            :6: channels.x.queue: there is no queue "A" (declared: a b)
            :7: channels.x.brand: there is no brand "Ü" (declared: main)"#]],
    );
}

#[test]
fn a_secret_in_plain_text_is_refused_and_never_repeated() {
    check(
        r#"
[channels.loft]
connector = "pigeon"
host = "loft.example"
secret = "hunter2"
secrets = [{ env = "A" }, "hunter2", { enviroment = "hunter2" }, { env = "A", file = "B" }]
login = { method = "password", user = "ada", password = "hunter2" }
[channels.barn]
connector = "pigeon"
host = "barn.example"
secrets = "hunter2"
secret = 5
passwrd = "hunter2"
"#,
        expect![[r#"
            :5: channels.loft.secret: a secret never stands in the configuration itself; write { env = "NAME" } or { file = "/path" }
            :6: channels.loft.secrets[1]: a secret never stands in the configuration itself; write { env = "NAME" } or { file = "/path" }
            :6: channels.loft.secrets[2]: a secret's reference has exactly one key, env or file; write { env = "NAME" } or { file = "/path" }
            :6: channels.loft.secrets[3]: a secret's reference has exactly one key, env or file; write { env = "NAME" } or { file = "/path" }
            :7: channels.loft.login.password: a secret never stands in the configuration itself; write { env = "NAME" } or { file = "/path" }
            :11: channels.barn.secrets: expected a list, found text; write [{ env = "NAME" }]
            :12: channels.barn.secret: this is to be a reference to a secret; write { env = "NAME" } or { file = "/path" }
            :13: channels.barn.passwrd: unknown key (keys here: acknowledge, attachment_hosts, brand, connector, host, idle, login, port, queue, secret, secrets, silent_after, tls, vouches)"#]],
    );
}

#[test]
fn a_choice_of_tables_is_judged_by_the_one_that_was_meant() {
    check(
        r#"
[channels.a]
connector = "pigeon"
host = "loft.example"
login = { method = "oauth", client = 7, token = { env = "A" } }
[channels.b]
connector = "pigeon"
host = "loft.example"
login = { method = "kerberos" }
[channels.c]
connector = "pigeon"
host = "loft.example"
login = "ada"
"#,
        expect![[r#"
            :5: channels.a.login.client: expected text, found a whole number
            :9: channels.b.login.method: "kerberos" is not one of password, oauth
            :13: channels.c.login: expected a table, found text"#]],
    );
}

#[test]
fn connectors_and_missing_keys_are_named() {
    check(
        "[channels.a]\nconnector = \"pigoen\"\n[channels.b]\nhost = \"x\"\n[channels.c]\nconnector = \"pigeon\"\n[channels.d]\nconnector = \"fax\"\nnumber = 1",
        expect![[r#"
            :2: channels.a.connector: there is no connector "pigoen"; did you mean "pigeon"? (known: pigeon, webhook)
            :3: channels.b: the key "connector" is missing; known: pigeon, webhook
            :5: channels.c: the key "host" is missing
            :8: channels.d.connector: there is no connector "fax" (known: pigeon, webhook)"#]],
    );
}

#[test]
fn names_that_nothing_declares_are_named() {
    check(
        r#"
[queues.vip]
[queues.sales]
[brands.other]
[channels.chat]
connector = "webhook"
[channels.mail]
connector = "webhook"
queue = "vipp"
brand = "othr"
[joining]
apart = ["jobs"]
[[rules]]
queue = "slaes"
when = { channel = ["chat", "chats"] }
"#,
        expect![[r#"
            :5: channels.chat: the key "queue" is missing, and its default "frontline" is not declared (declared: sales, vip)
            :9: channels.mail.queue: there is no queue "vipp"; did you mean "vip"? (declared: sales, vip)
            :10: channels.mail.brand: there is no brand "othr"; did you mean "other"? (declared: main, other)
            :12: joining.apart[0]: there is no channel "jobs" (declared: chat, mail)
            :14: rules[0].queue: there is no queue "slaes"; did you mean "sales"? (declared: sales, vip)
            :15: rules[0].when.channel[1]: there is no channel "chats"; did you mean "chat"? (declared: chat, mail)"#]],
    );
}

#[test]
fn rules_that_cannot_work_are_named() {
    check(
        r#"
[[rules]]
name = "first"
when = { automatic = true }
[[rules]]
name = "first"
priority = "urgent"
[[rules]]
when = { keywords = [] }
tags = ["last"]
[[rules]]
tags = ["after"]
when = { chanel = ["x"] }
"#,
        expect![[r#"
            :2: rules[0]: the rule decides nothing: give it a queue, a priority or tags
            :5: rules[1]: the rule has no condition, so the rules after it never apply: put it last
            :6: rules[1].name: another rule is called "first" already
            :8: rules[2]: the rule has no condition, so the rules after it never apply: put it last
            :13: rules[3].when.chanel: unknown key; did you mean "channel"? (keys here: automatic, channel, intent, keywords, labels, language)"#]],
    );
}

#[test]
fn durations_out_of_range_are_refused_unless_overridden_by_name() {
    check(
        "[retention]\nbus = \"7d\"\nraw = \"1h\"",
        expect![[r#"
        :2: retention.bus: 7d is outside of 8d to 28d; bus_unsafe = true accepts it: redeliveries may then be filed twice, erasure ends later
        :3: retention.raw: 1h is outside of 1d to 36500d"#]],
    );
    check(
        "[retention]\nbus = \"60d\"\nbus_unsafe = true",
        expect!["nothing is wrong"],
    );
    check(
        "[server]\nbody_bytes_max = 1000",
        expect![":2: server.body_bytes_max: this is outside of 64KiB to 256MiB"],
    );
}

#[test]
fn a_variable_or_flag_at_fault_is_named() {
    check_all(
        "[channels.shop-chat]\nconnector = \"pigeon\"\nhost = \"x\"\n",
        &[
            ("SWITCHBOARD__SERVER__LISTEN", "everywhere"),
            ("SWITCHBOARD__SERVER__LISTN", "127.0.0.1:1"),
            ("SWITCHBOARD__CHANNELS__SHOP_CHAT__SECRET", "hunter2"),
            ("SWITCHBOARD__CHANNELS__SHOP_CHAT__PORT", "many"),
            ("SWITCHBOARD__RULES__0__QUEUE", "x"),
            ("SWITCHBOARD__RUN__PARTS", "[\"api\""),
            ("SWITCHBOARD__LOG", "debug"),
            ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
        ],
        &[
            Flag::new("--listen", "server.listen.port", "80"),
            Flag::new("--data-dir", "server.data_dir", ""),
        ],
        expect![[r#"
            environment variable SWITCHBOARD__CHANNELS__SHOP_CHAT__PORT: channels.shop-chat.port: expected a whole number, found text
            environment variable SWITCHBOARD__CHANNELS__SHOP_CHAT__SECRET: channels.shop-chat.secret: a secret never stands in the configuration itself; write { env = "NAME" } or { file = "/path" }
            environment variable SWITCHBOARD__LOG: log: expected a table, found text
            environment variable SWITCHBOARD__RULES__0__QUEUE: rules.0.queue: rules is a list: set it whole, written as TOML
            environment variable SWITCHBOARD__RUN__PARTS: run.parts: this is not TOML: unclosed array, expected `]`
            environment variable SWITCHBOARD__SERVER__LISTEN: server.listen: "everywhere" is not an address: write an IP address and a port, as "127.0.0.1:8480" or "[::]:8480"
            environment variable SWITCHBOARD__SERVER__LISTN: server.listn: unknown key; did you mean "listen"? (keys here: body_bytes_max, cors_origins, data_dir, listen, public_url, tls, trusted_proxies, upload_bytes_max)
            flag --data-dir: server.data_dir: this must not be empty
            flag --listen: server.listen.port: server.listen is no table, so it has no such key"#]],
    );
    check_all(
        "",
        &[("SWITCHBOARD__", "1"), ("SWITCHBOARD__A____B", "1")],
        &[],
        expect![[r#"
        environment variable SWITCHBOARD__: this names no key: write SWITCHBOARD__SECTION__KEY
        environment variable SWITCHBOARD__A____B: this names no key: write SWITCHBOARD__SECTION__KEY"#]],
    );
}

#[test]
fn what_only_a_variable_began_is_named_by_it() {
    let env = [("SWITCHBOARD__CHANNELS__FAX__QUEUE", "frontline")];
    check_all(
        "",
        &env,
        &[],
        expect![[
            r#"environment variable SWITCHBOARD__CHANNELS__FAX__QUEUE: channels.fax: the key "connector" is missing; known: pigeon, webhook"#
        ]],
    );
}

#[test]
fn what_is_not_toml_is_shown_by_line() {
    check(
        "[server]\nlisten = \n\n[log\nlevel = \"info\"\n",
        expect![[r#"
        :2: this is not TOML: string values must be quoted, expected literal string
        :4: this is not TOML: unclosed table, expected `]`"#]],
    );
    check(
        "[log]\nlevel = \"info\"\nlevel = \"warn\"\n",
        expect![":3: this is not TOML: duplicate key"],
    );
    check(
        "[channels.a]\nconnector = \"pigeon\"\nhost = \"x\"\nport = 99999999999999999999\n",
        expect![":4: channels.a.port: the number is too large"],
    );
}

#[test]
fn a_missing_file_is_one_error() {
    let sources = Sources {
        file: Some(PathBuf::from("/nowhere/switchboard.toml")),
        ..Sources::default()
    };
    let said = load(&sources, CONNECTORS).unwrap_err().to_string();
    expect!["/nowhere/switchboard.toml: cannot read the configuration: No such file or directory (os error 2)"].assert_eq(&said);
}

/// Whatever stands where a value belongs, the check finds it before the types do, names the key
/// and repeats no secret.
#[test]
fn every_value_of_a_wrong_kind_is_found_with_its_key() {
    let good = r#"
[server]
listen = "127.0.0.1:8480"
data_dir = "data"
public_url = "https://shop.example"
trusted_proxies = []
cors_origins = []
body_bytes_max = "1MiB"
[run]
parts = ["inbound", "router", "dispatch", "api", "outbound"]
[bus]
kind = "local"
[store]
kind = "sqlite"
[joining]
unify_window = "1d"
across = "brand"
apart = []
[retention]
bus_unsafe = false
bus = "14d"
[log]
level = "info"
[brands.main]
name = "Shop"
[queues.frontline]
priority = "normal"
[channels.loft]
connector = "pigeon"
brand = "main"
queue = "frontline"
vouches = []
acknowledge = "hello"
host = "loft.example"
port = 1
tls = "implicit"
secret = { env = "A" }
secrets = []
idle = true
login = { method = "oauth", client = "a", token = { env = "A" } }
[[rules]]
name = "rule"
tags = ["a"]
priority = "high"
queue = "frontline"
when = { channel = ["loft"] }
"#;
    check(good, expect!["nothing is wrong"]);
    let strange = [
        "true",
        "-1",
        "1.5",
        "\"hunter2\"",
        "[]",
        "[{ a = 1 }]",
        "{ env = 1 }",
    ];
    let lines: Vec<&str> = good.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        for value in strange {
            let mut lines = lines.clone();
            let changed = format!("{key} = {value}");
            lines[at] = &changed;
            let Err(errors) = load_text(&lines.join("\n"), &[], &[]) else {
                continue;
            };
            for error in errors.iter() {
                assert!(!error.key.is_empty(), "{changed}: {error}");
                let secret = ["secret", "login"].iter().any(|word| key.contains(word));
                assert!(
                    !secret || !error.message.contains("hunter2"),
                    "{changed}: {error}"
                );
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_loading_panic(
        text in "([\\[\\]{}=,.\"' \n#]|channels|rules|server|a|1|-|: ){0,60}",
        value in ".{0,20}",
    ) {
        let _either_way_is_fine = load_text(&text, &[("SWITCHBOARD__RULES", &value)], &[]);
        let _either_way_is_fine = load_text("", &[("SWITCHBOARD__SERVER__LISTEN", &value)], &[]);
    }
}
