.PHONY: run test check bench bench-mail bench-postgres bench-search

# Starts the daemon: make run ARGS='--config config/example.toml --data-dir data'
run:
	cargo run --release -- run $(ARGS)

# Every test, with real mail servers, a real Kafka and a real PostgreSQL, which are installed where they are missing.
test:
	sh tests/peers/install.sh && SWITCHBOARD_PEERS=1 cargo test --workspace --features kafka,postgres $(ARGS)

check:
	cargo fmt --all --check && cargo clippy --workspace --all-targets --features kafka,postgres -- -D warnings && perl .ci/licences

# The figures of docs/performance.md: make bench ARGS='--rate 1000 --seconds 120'
bench:
	cargo bench --bench load -- $(ARGS)

# The same for mail, from a real Dovecot.
bench-mail:
	sh tests/peers/install.sh && cargo bench --bench mail -- $(ARGS)

# What the store costs on PostgreSQL beside a bare insert, and claims: make bench-postgres ARGS='--messages 5000'
bench-postgres:
	sh tests/peers/install.sh && cargo bench --features postgres --bench postgres -- $(ARGS)

# What a search costs whose words are in messages that the asker may not see.
bench-search:
	cargo bench --bench search -- $(ARGS)
