.PHONY: run test check lint release packages dist bench bench-cluster bench-mail bench-postgres bench-search fuzz

TARGET = $(or $(CARGO_TARGET_DIR),target)

# Starts the daemon: make run ARGS='--config config/example.toml --data-dir data'
run:
	cargo run --release -- run $(ARGS)

# Every test, with real mail servers, a real Kafka and a real PostgreSQL, which are installed where they are missing.
test:
	sh tests/peers/install.sh && SWITCHBOARD_PEERS=1 cargo test --workspace --features kafka-tls-system,postgres $(ARGS)

check: lint packages

# Any bytes into every parser of outside bytes, each target for a minute: make fuzz ARGS='mail 600'
fuzz:
	.ci/fuzz $(ARGS)

# Format, lints of the whole and of what a build without servers has, licences.
lint:
	cargo fmt --all --check && cargo clippy --workspace --all-targets --features kafka-tls-system,postgres -- -D warnings && cargo clippy -- -D warnings && perl .ci/licences

# The binary as packages have it, but with the system's OpenSSL for TLS towards Kafka: one of its own takes longer than all the
# rest; with the load driver, so that `make bench` builds nothing again.
release:
	cargo build --release --features kafka-tls-system,postgres --bins --bench load

# The files of deploy/, linted and held against their schemas; and a .deb, installed, started by its unit's command line, removed.
packages: release
	.ci/tools && .ci/deploy $(TARGET)/release/switchboard && rm -rf $(TARGET)/packages && sh deploy/package.sh $(TARGET)/release/switchboard kafka-tls-system,postgres $(TARGET)/packages && .ci/package $(TARGET)/packages/*.deb

# A tarball and a .deb with everything, in dist/.
dist:
	cargo build --release --locked --features kafka-tls,postgres && sh deploy/package.sh $(TARGET)/release/switchboard kafka-tls,postgres dist

# The figures of docs/performance.md: make bench ARGS='--rate 1000 --seconds 120'
bench:
	cargo bench --features kafka-tls-system,postgres --bench load -- $(ARGS)

# The same for mail, from a real Dovecot.
bench-mail:
	sh tests/peers/install.sh && cargo bench --features kafka-tls-system,postgres --bench mail -- $(ARGS)

# What the store costs on PostgreSQL beside a bare insert, and claims: make bench-postgres ARGS='--messages 5000'
bench-postgres:
	sh tests/peers/install.sh && cargo bench --features kafka-tls-system,postgres --bench postgres -- $(ARGS)

# From the bus to the queues, on a real Kafka and a real PostgreSQL: make bench-cluster ARGS='--messages 20000 --routers 1'
bench-cluster:
	sh tests/peers/install.sh && cargo bench --features kafka-tls-system,postgres --bench cluster -- $(ARGS)

# What a search costs whose words are in messages that the asker may not see.
bench-search:
	cargo bench --features kafka-tls-system,postgres --bench search -- $(ARGS)
