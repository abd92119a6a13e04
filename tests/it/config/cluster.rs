//! What is said about a wrong configuration of several processes.

use expect_test::expect;

use super::check;

#[test]
fn pairs_and_parts_that_are_not_supported_are_refused_by_name() {
    check(
        "[bus]\nkind = \"kafka\"\nbrokers = [\"kafka:9092\"]",
        expect![
            ":2: bus.kind: kafka with sqlite is no supported pair: use local with sqlite, or kafka with postgres"
        ],
    );
    check(
        "[store]\nkind = \"postgres\"\nurl = \"postgres://switchboard@db/switchboard\"",
        expect![
            ":2: store.kind: local with postgres is no supported pair: use local with sqlite, or kafka with postgres"
        ],
    );
    check(
        "[store]\nkind = \"mysql\"",
        expect![[r#":2: store.kind: "mysql" is not one of sqlite, postgres"#]],
    );
    check(
        "[run]\nparts = [\"api\", \"router\", \"dispatch\"]",
        expect![
            ":2: run.parts: with the local bus one process runs every part; missing: inbound, outbound"
        ],
    );
}

#[test]
fn what_brokers_say_of_a_group_that_they_share_out_is_not_passed_through() {
    let config = |protocol| {
        format!(
            "[bus]\ngroup_protocol = \"{protocol}\"\n[bus.librdkafka]\n\"session.timeout.ms\" = 9000\n\"linger.ms\" = 3"
        )
    };
    check(&config("classic"), expect!["nothing is wrong"]);
    check(
        &config("consumer"),
        expect![[
            r#":4: bus.librdkafka."session.timeout.ms": with bus.group_protocol = "consumer" brokers say this: set group.consumer.session.timeout.ms there"#
        ]],
    );
}

#[test]
fn a_kafka_bus_names_its_brokers_and_passes_nothing_through_that_is_ours_or_secret() {
    check(
        r#"[bus]
brokers = ["kafka", "a:9092,b:9092"]
partitions = 0
prefix = "shop talk"
group_protocol = "eager"
accept_unsafe = ["one-replica"]
[bus.librdkafka]
"delivery.timeout.ms" = 5000
"request.required.acks" = 1
"linger.ms" = 5
"ssl.keystore.password" = "hunter2"
"ssl.ca.path" = ["a"]
[bus.librdkafka_secrets]
"group.id" = { env = "GROUP" }
"ssl.key.password" = "hunter2"
"#,
        expect![[r#"
            :2: bus.brokers[0]: "kafka" does not match ^[^\s,]+:[0-9]{1,5}$
            :2: bus.brokers[1]: "a:9092,b:9092" does not match ^[^\s,]+:[0-9]{1,5}$
            :3: bus.partitions: 0 is too small: at least 1
            :4: bus.prefix: "shop talk" does not match ^[A-Za-z0-9._-]{1,200}$
            :5: bus.group_protocol: "eager" is not one of classic, consumer
            :6: bus.accept_unsafe[0]: "one-replica" is not one of one-in-sync-replica, unclean-election, short-retention, long-retention, size-retention, compaction
            :8: bus.librdkafka."delivery.timeout.ms": Switchboard sets this itself: intake is answered before a provider gives up
            :9: bus.librdkafka."request.required.acks": Switchboard sets this itself: what is acknowledged must be on all in-sync replicas, once
            :11: bus.librdkafka."ssl.keystore.password": this is a secret: name it under bus.librdkafka_secrets, as { env = "…" } or { file = "…" }
            :12: bus.librdkafka."ssl.ca.path": expected true or false or a whole number or text, found a list
            :14: bus.librdkafka_secrets."group.id": Switchboard sets this itself: it is made of bus.prefix
            :15: bus.librdkafka_secrets."ssl.key.password": a secret never stands in the configuration itself; write { env = "NAME" } or { file = "/path" }"#]],
    );
}

#[test]
#[cfg(feature = "kafka-secured")]
fn how_brokers_are_reached_and_told_who_we_are_is_said_whole_and_once() {
    let check = |keys: &str, expected| {
        check(
            &format!("[bus]\nbrokers = [\"kafka:9093\"]\n{keys}"),
            expected,
        );
    };
    let secret = "{ env = \"SECRET\" }";
    for good in [
        "tls = \"on\"\nca_file = \"a.pem\"\ncert_file = \"b.pem\"\nkey_file = \"b.key\"".to_owned(),
        format!("sasl = \"scram-sha-256\"\nusername = \"u\"\npassword = {secret}"),
        format!("tls = \"on\"\nsasl = \"plain\"\nusername = \"u\"\npassword = {secret}"),
        format!("sasl_unencrypted = true\nsasl = \"plain\"\nusername = \"u\"\npassword = {secret}"),
        format!("tls = \"on\"\nsasl = \"oauthbearer\"\ntoken_url = \"https://login.example/token\"\nclient_id = \"c\"\nclient_secret = {secret}\nscope = \"kafka\""),
        "tls = \"on\"\nsasl = \"oauthbearer\"\n[bus.librdkafka]\n\"sasl.oauthbearer.metadata.authentication.type\" = \"azure_imds\"".to_owned(),
    ] {
        check(&good, expect!["nothing is wrong"]);
    }
    check(
        "sasl = \"gssapi\"\ntls = \"yes\"\ntoken_url = \"login\"\npassword = \"hunter2\"",
        expect![[r#"
            :3: bus.sasl: "gssapi" is not one of plain, scram-sha-256, scram-sha-512, oauthbearer
            :4: bus.tls: "yes" is not one of off, on
            :5: bus.token_url: this is not a URL (relative URL without a base): write it whole, as "https://support.shop.example"
            :6: bus.password: a secret never stands in the configuration itself; write { env = "NAME" } or { file = "/path" }"#]],
    );
    check(
        "ca_file = \"a.pem\"\nkey_file = \"b.key\"\nusername = \"u\"\nscope = \"kafka\"",
        expect![[r#"
            :3: bus.ca_file: it is used only with bus.tls = "on"
            :4: bus.key_file: it is used only with bus.tls = "on"
            :4: bus.key_file: the key "cert_file" is missing: a certificate of our own is used with its private key
            :5: bus.username: it is used only with bus.sasl = "plain" or "scram-sha-…"
            :6: bus.scope: it is used only with bus.sasl = "oauthbearer""#]],
    );
    check(
        "sasl = \"plain\"\nclient_id = \"c\"",
        expect![[r#"
            :3: bus.sasl: the key "password" is missing, and bus.sasl is plain: write { env = "NAME" } or { file = "path" }
            :3: bus.sasl: the key "username" is missing, and bus.sasl is plain: name whom Kafka knows
            :3: bus.sasl: the password would go over the network unencrypted: set bus.tls to "on", or accept it by bus.sasl_unencrypted = true
            :4: bus.client_id: it is used only with bus.sasl = "oauthbearer""#]],
    );
    check(
        "sasl = \"oauthbearer\"\ntoken_url = \"http://login.example/token\"\nusername = \"u\"",
        expect![[r#"
            :3: bus.sasl: the key "client_id" is missing, and bus.sasl is oauthbearer: name whom Kafka knows
            :3: bus.sasl: the key "client_secret" is missing, and bus.sasl is oauthbearer: write { env = "NAME" } or { file = "path" }
            :3: bus.sasl: the token would go over the network unencrypted: set bus.tls to "on", or accept it by bus.sasl_unencrypted = true
            :4: bus.token_url: the secret would go over the network unencrypted: use https
            :5: bus.username: it is used only with bus.sasl = "plain" or "scram-sha-…""#]],
    );
}

#[test]
fn what_has_a_key_of_its_own_is_not_passed_through_by_any_of_its_names() {
    check(
        r#"[bus.librdkafka]
"security.protocol" = "ssl"
"ssl.ca.location" = "a.pem"
"ssl.certificate.location" = "b.pem"
"enable.ssl.certificate.verification" = false
"ssl.endpoint.identification.algorithm" = "none"
"sasl.mechanisms" = "PLAIN"
"sasl.mechanism" = "PLAIN"
"sasl.oauthbearer.client.credentials.client.id" = "c"
"https.ca.pem" = "a"
"ssl.keystore.location" = "stays.p12"
"sasl.kerberos.service.name" = "stays"
[bus.librdkafka_secrets]
"sasl.password" = { env = "P" }
"sasl.oauthbearer.client.credentials.client.secret" = { env = "P" }
"ssl.keystore.password" = { env = "P" }
"#,
        expect![[r#"
            :2: bus.librdkafka."security.protocol": Switchboard sets this itself: it is bus.tls and bus.sasl
            :3: bus.librdkafka."ssl.ca.location": Switchboard sets this itself: it is bus.ca_file
            :4: bus.librdkafka."ssl.certificate.location": Switchboard sets this itself: it is bus.cert_file and bus.key_file
            :5: bus.librdkafka."enable.ssl.certificate.verification": Switchboard sets this itself: brokers are who their certificates say
            :6: bus.librdkafka."ssl.endpoint.identification.algorithm": Switchboard sets this itself: brokers are who their certificates say
            :7: bus.librdkafka."sasl.mechanisms": Switchboard sets this itself: it is bus.sasl
            :8: bus.librdkafka."sasl.mechanism": Switchboard sets this itself: it is bus.sasl
            :9: bus.librdkafka."sasl.oauthbearer.client.credentials.client.id": Switchboard sets this itself: it is bus.client_id and bus.client_secret
            :10: bus.librdkafka."https.ca.pem": Switchboard sets this itself: it is bus.token_ca_file
            :14: bus.librdkafka_secrets."sasl.password": Switchboard sets this itself: it is bus.username and bus.password
            :15: bus.librdkafka_secrets."sasl.oauthbearer.client.credentials.client.secret": Switchboard sets this itself: it is bus.client_id and bus.client_secret"#]],
    );
}

#[test]
fn a_database_is_named_without_its_password_and_its_tls_is_not_said_twice() {
    let check = |url: &str, expected| {
        let pair =
            "[bus]\nkind = \"kafka\"\nbrokers = [\"kafka:9092\"]\n[store]\nkind = \"postgres\"";
        check(&format!("{pair}\n{url}"), expected);
    };
    check(
        "",
        expect![[
            r#":4: store: the key "url" is missing, and store.kind is postgres: name the database, as "postgres://user@host:5432/database""#
        ]],
    );
    for (url, expected) in [
        (
            "mysql://a@b/c",
            expect![[r#"
            :6: store.url: the given text does not match ^postgres(ql)?://
            :6: store.url: this is no URL of a PostgreSQL database (unexpected EOF): use postgres://user@host:5432/database"#]],
        ),
        (
            "postgres://switchboard@db:port/switchboard",
            expect![
                ":6: store.url: this is no URL of a PostgreSQL database (invalid value for option `port`): use postgres://user@host:5432/database"
            ],
        ),
        (
            "postgres://switchboard:hunter2@db/switchboard",
            expect![[
                r#":6: store.url: there is a password in it: take it out, and name where it is in store.password, as { env = "…" } or { file = "…" }"#
            ]],
        ),
        (
            "postgres://db/switchboard",
            expect![":6: store.url: a user is missing: use postgres://user@host:5432/database"],
        ),
        (
            "postgres:///switchboard?user=a",
            expect![":6: store.url: a host is missing: use postgres://user@host:5432/database"],
        ),
        (
            "postgres://switchboard@db",
            expect![":6: store.url: a database is missing: use postgres://user@host:5432/database"],
        ),
        (
            "postgres://switchboard@db/switchboard?sslmode=require",
            expect![
                ":6: store.url: whether it is encrypted is said by store.tls: take it out of the URL"
            ],
        ),
        (
            "postgres://switchboard@db1:5432,db2:5432/switchboard?target_session_attrs=read-write",
            expect!["nothing is wrong"],
        ),
    ] {
        check(&format!("url = {url:?}"), expected);
    }
}

#[test]
#[cfg(feature = "postgres")]
fn files_are_in_one_place_and_the_keys_of_a_bucket_are_named_and_not_written() {
    let check = |keys: &str, expected| check(&format!("[store]\n{keys}"), expected);
    let keys = "blobs_access_key = { env = \"A\" }\nblobs_secret_key = { env = \"B\" }";
    check(
        &format!("blobs_url = \"s3://switchboard/files\"\n{keys}"),
        expect!["nothing is wrong"],
    );
    check(
        "blobs_region = \"eu-central-1\"",
        expect![":2: store.blobs_region: it is used only with store.blobs_url"],
    );
    for (url, expected) in [
        (
            "s3://Shop",
            expect![
                ":2: store.blobs_url: a bucket's name has 3 to 63 small letters, digits, dots and dashes: use s3://bucket or s3://bucket/prefix"
            ],
        ),
        (
            "s3://shop/../else",
            expect![
                ":2: store.blobs_url: a prefix has letters, digits, dots, dashes and slashes between them: use s3://bucket or s3://bucket/prefix"
            ],
        ),
    ] {
        check(&format!("blobs_url = {url:?}\n{keys}"), expected);
    }
    check(
        "blobs_url = \"s3://switchboard\"\nblobs_dir = \"/srv\"",
        expect![[r#"
            :2: store.blobs_url: store.blobs_dir is given, too: files are in one of them
            :2: store.blobs_url: the key "blobs_access_key" is missing, and files are in a bucket: write { env = "NAME" } or { file = "path" }
            :2: store.blobs_url: the key "blobs_secret_key" is missing, and files are in a bucket: write { env = "NAME" } or { file = "path" }"#]],
    );
}
