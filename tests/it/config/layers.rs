//! Where a value comes from, and what it becomes.

use std::path::PathBuf;

use expect_test::expect;
use switchboard::config;

use super::*;

#[test]
fn flags_win_over_variables_over_the_file_over_what_is_built_in() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\ndata_dir = \"file\"\n[log]\nlevel = \"warn\"";
    let env = [
        ("SWITCHBOARD__SERVER__LISTEN", "127.0.0.1:2"),
        ("SWITCHBOARD__SERVER__DATA_DIR", "env"),
    ];
    let flags = [Flag::new("--listen", "server.listen", "127.0.0.1:3")];
    let config = load_text(text, &env, &flags).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.data_dir, PathBuf::from("env"));
    let origins = [
        "server.listen",
        "server.data_dir",
        "log.level",
        "log.format",
    ]
    .map(|key| config.origin(key).to_string());
    assert_eq!(origins[0], "flag --listen");
    assert_eq!(
        origins[1],
        "environment variable SWITCHBOARD__SERVER__DATA_DIR"
    );
    assert!(origins[2].ends_with("switchboard.toml:5"), "{}", origins[2]);
    assert_eq!(origins[3], "built-in");
}

#[test]
fn variables_take_the_type_their_key_wants() {
    let env = [
        ("SWITCHBOARD__CHANNELS__SHOP_CHAT__HOST", "127"),
        ("SWITCHBOARD__CHANNELS__SHOP_CHAT__PORT", "99"),
        ("SWITCHBOARD__CHANNELS__SHOP_CHAT__IDLE", "true"),
        (
            "SWITCHBOARD__CHANNELS__SHOP_CHAT__SECRETS",
            "[{ env = \"A\" }]",
        ),
        ("SWITCHBOARD__CHANNELS__SHOP_CHAT__CONNECTOR", "pigeon"),
        ("SWITCHBOARD__CHANNELS__SHOP_CHAT__VOUCHES", "email, phone"),
        ("SWITCHBOARD__CHANNELS__SHOP_CHAT__QUEUE", "vip-line"),
        ("SWITCHBOARD__QUEUES__VIP_LINE__PRIORITY", "high"),
        ("SWITCHBOARD__SERVER__BODY_BYTES_MAX", "1048576"),
        ("SWITCHBOARD__RULES", "[{ tags = [\"a\"] }]"),
    ];
    let config = load_text("", &env, &[]).unwrap();
    let (_, channel) = config.channels.first_key_value().unwrap();
    expect![[
        r#"vip-line [Email, Phone] {"host":"127","idle":true,"port":99,"secrets":[{"env":"A"}]}"#
    ]]
    .assert_eq(&format!(
        "{} {:?} {}",
        channel.queue, channel.vouches, channel.settings
    ));
    assert_eq!(config.server.body_bytes_max, 1 << 20);
    assert_eq!(config.rules[0].name, "rule 1");
}

#[test]
fn without_queues_there_is_one_and_with_queues_only_those() {
    let channel = "[channels.a]\nconnector = \"webhook\"\n";
    let config = load_text(channel, &[], &[]).unwrap();
    assert_eq!(
        Vec::from_iter(config.queues.keys().map(|id| id.as_str())),
        ["frontline"]
    );
    let config = load_text(&format!("{channel}queue = \"vip\"\n[queues.vip]"), &[], &[]).unwrap();
    assert_eq!(
        Vec::from_iter(config.queues.keys().map(|id| id.as_str())),
        ["vip"]
    );
    check(
        &format!("{channel}[queues.vip]"),
        expect![[
            r#":1: channels.a: the key "queue" is missing, and its default "frontline" is not declared (declared: vip)"#
        ]],
    );
}

#[test]
fn the_effective_configuration_loads_to_itself_and_shows_its_sources() {
    let text = r#"
[brands.other]
name = "Other \"shop\""
[channels.loft]
connector = "pigeon"
host = "loft.example"
secrets = [{ env = "A" }]
[queues.frontline]
[[rules]]
tags = ["a"]
when = { labels = ["urgency:high"] }
"#;
    let env = [("SWITCHBOARD__LOG__LEVEL", "debug")];
    let printed = config::effective(&load_text(text, &env, &[]).unwrap());
    let again = config::effective(&load_text(&printed, &[], &[]).unwrap());
    let without_sources = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split("  # ").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(without_sources(&printed), without_sources(&again));
    let shown: Vec<&str> = printed
        .lines()
        .map(|line| line.split('/').next().unwrap())
        .collect();
    expect![[r#"
        rules = [
          { tags = ["a"], when = { labels = ["urgency:high"] } },  # 
        ]

        [alerts]
        dead_letters = true  # built-in
        disk_free_min = "2GiB"  # built-in
        down_after = "15m"  # built-in
        outbox_held = true  # built-in
        over_after = "5m"  # built-in
        remind_every = "6h"  # built-in
        undecided_after = "5m"  # built-in
        unsent_after = "4h"  # built-in

        [brands.other]
        name = "Other \"shop\""  # 

        [bus]
        accept_unsafe = []  # built-in
        brokers = []  # built-in
        group_protocol = "classic"  # built-in
        kind = "local"  # built-in
        partitions = 12  # built-in
        prefix = "switchboard"  # built-in
        replication = 3  # built-in

        [channels.loft]
        connector = "pigeon"  # 
        host = "loft.example"  # 
        secrets = [{ env = "A" }]  # 

        [fan_out]
        queue_topics = false  # built-in

        [joining]
        across = "brand"  # built-in
        apart = []  # built-in
        duplicate_window = "15m"  # built-in
        reopen_window = "7d"  # built-in
        unify_window = "3d"  # built-in

        [log]
        format = "text"  # built-in
        level = "debug"  # environment variable SWITCHBOARD__LOG__LEVEL

        [queues.frontline]

        [retention]
        audit = "365d"  # built-in
        backups = "30d"  # built-in
        bus = "14d"  # built-in
        bus_unsafe = false  # built-in
        dead_letters = "90d"  # built-in
        drafts = "90d"  # built-in
        events = "7d"  # built-in
        raw = "30d"  # built-in
        resolved = "730d"  # built-in

        [run]
        parts = ["inbound", "router", "dispatch", "api", "outbound"]  # built-in

        [server]
        body_bytes_max = "10MiB"  # built-in
        cors_origins = []  # built-in
        data_dir = "switchboard-data"  # built-in
        listen = "127.0.0.1:8480"  # built-in
        trusted_proxies = []  # built-in
        upload_bytes_max = "25MiB"  # built-in

        [store]
        accept_unsafe = []  # built-in
        kind = "sqlite"  # built-in"#]]
    .assert_eq(&shown.join("\n"));
}
