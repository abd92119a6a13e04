#!/bin/sh
# Installs the servers that the tests start for themselves: Kafka from Maven Central, mail servers and PostgreSQL (Debian and its relatives);
# clients that are not ours, from PyPI, npm and Debian; and what a build needs that speaks TLS to Kafka.
#
# The packages would start system-wide servers and add them to the boot; both are prevented, since the tests run their
# own on loopback. What is already installed is left as it is.
set -eu

# Kafka is jars in a cache: it needs no root, and no one else sees it.
kafka_version=4.1.0
log4j_version=2.24.3
kafka="$HOME/.cache/switchboard-peers/kafka"
if [ "$(cat "$kafka/complete" 2>/dev/null)" != "$kafka_version" ]; then
    for tool in java mvn; do
        if ! command -v "$tool" >/dev/null; then
            echo "peers: Kafka needs $tool: install a Java 17 runtime and Maven (Debian: openjdk-17-jre-headless maven)" >&2
            exit 1
        fi
    done
    echo "peers: fetching Apache Kafka $kafka_version from Maven Central into $kafka"
    rm -rf "$kafka"
    mkdir -p "$kafka"
    # The logging that Kafka calls is in none of its own artifacts.
    cat >"$kafka/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
 <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
 <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-api</artifactId><version>$log4j_version</version></dependency>
 <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>$log4j_version</version></dependency>
 <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$log4j_version</version></dependency>
</dependencies></project>
POM
    plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
    if ! (cd "$kafka" && mvn -q -B "$plugin:copy-dependencies" -DincludeScope=runtime "-DoutputDirectory=$kafka") >"$kafka/log" 2>&1; then
        tail -n 20 "$kafka/log" >&2
        echo "peers: KAFKA COULD NOT BE FETCHED: the tests of the Kafka bus cannot run, so this fails; is Maven Central reachable?" >&2
        exit 1
    fi
    echo "$kafka_version" >"$kafka/complete"
fi

# What strangers read topics with: Confluent's client and the CloudEvents SDK, and the schema of AsyncAPI itself.
python_packages='cloudevents==2.2.0 confluent-kafka==2.16.1 jsonschema==4.25.1'
asyncapi_specs=6.11.1
topics="$HOME/.cache/switchboard-peers/topics"
if [ "$(cat "$topics/complete" 2>/dev/null)" != "$python_packages $asyncapi_specs" ]; then
    for tool in python3 npm; do
        if ! command -v "$tool" >/dev/null; then
            echo "peers: reading topics as others do needs $tool (Debian: python3-venv npm)" >&2
            exit 1
        fi
    done
    echo "peers: installing $python_packages and @asyncapi/specs $asyncapi_specs into $topics"
    rm -rf "$topics"
    mkdir -p "$topics"
    # shellcheck disable=SC2086 # one word per package
    if ! { python3 -m venv "$topics/venv" &&
        "$topics/venv/bin/pip" install --quiet --disable-pip-version-check $python_packages &&
        (cd "$topics" && npm pack --silent "@asyncapi/specs@$asyncapi_specs") &&
        tar -xzf "$topics/asyncapi-specs-$asyncapi_specs.tgz" -C "$topics" 'package/schemas/3.0.0-without-$id.json'; } >"$topics/log" 2>&1; then
        tail -n 20 "$topics/log" >&2
        echo "peers: the clients that read topics could not be installed; are PyPI and npm reachable, and is there python3-venv?" >&2
        exit 1
    fi
    mv "$topics/package/schemas/3.0.0-without-\$id.json" "$topics/asyncapi-3.0.0.json"
    rm -r "$topics/package" "$topics/asyncapi-specs-$asyncapi_specs.tgz"
    echo "$python_packages $asyncapi_specs" >"$topics/complete"
fi

# An S3 store that is not ours, for files of processes on several hosts.
s3_packages='flask==3.1.3 flask-cors==6.0.5 moto[s3]==5.2.5'
s3="$HOME/.cache/switchboard-peers/s3"
if [ "$(cat "$s3/complete" 2>/dev/null)" != "$s3_packages" ]; then
    echo "peers: installing $s3_packages into $s3"
    rm -rf "$s3"
    mkdir -p "$s3"
    # shellcheck disable=SC2086 # one word per package
    if ! { python3 -m venv "$s3/venv" &&
        "$s3/venv/bin/pip" install --quiet --disable-pip-version-check $s3_packages; } >"$s3/log" 2>&1; then
        tail -n 20 "$s3/log" >&2
        echo "peers: the S3 store of the tests could not be installed; is PyPI reachable, and is there python3-venv?" >&2
        exit 1
    fi
    echo "$s3_packages" >"$s3/complete"
fi

as_root=''
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo 'peers: mail servers are installed and started as root: become root, or install sudo' >&2
        exit 1
    fi
    echo 'peers: the tests start mail servers as root, by sudo'
    sudo -v
    as_root=sudo
fi

missing=''
[ -x /usr/lib/dovecot/imap ] || missing="$missing dovecot-imapd"
[ -x /usr/lib/dovecot/lmtp ] || missing="$missing dovecot-lmtpd"
[ -x /usr/lib/postfix/sbin/master ] || missing="$missing postfix"
# A version of its own in each folder; its package makes and starts no cluster while `policy-rc.d` forbids it.
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v kcat >/dev/null || missing="$missing kcat"
# What librdkafka is built with (kafka-tls-system).
for package in libssl-dev:openssl libcurl4-openssl-dev:libcurl; do
    pkg-config --exists "${package#*:}" 2>/dev/null || missing="$missing ${package%:*}"
done
command -v pkg-config >/dev/null || missing="$missing pkg-config"
# The second IMAP server. Debian lets only one be installed, so of this one the part that differs is unpacked.
cyrus=/usr/local/lib/switchboard-peers/cyrus-imapd
lacks_cyrus=''
[ -x /usr/lib/cyrus/bin/imapd ] || [ -x "$cyrus/usr/lib/cyrus/bin/imapd" ] || lacks_cyrus=yes
[ -x /usr/lib/cyrus/bin/master ] || missing="$missing cyrus-common"
if [ -z "$missing$lacks_cyrus" ]; then
    echo 'peers: Dovecot, Cyrus, Postfix, PostgreSQL, kcat, OpenSSL and libcurl are installed'
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "peers: these tests need Dovecot 2.3 (imap, lmtp), Cyrus 3.6, Postfix 3, PostgreSQL 15, kcat 1.7 and the headers of OpenSSL 3 and libcurl; install them and run this again" >&2
    exit 1
fi

echo "peers: installing$missing${lacks_cyrus:+ cyrus-imapd} with apt-get, not started and not enabled"
policy=/usr/sbin/policy-rc.d
log=''
trap 'rm -f "$log"' EXIT
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"; rm -f "$log"' EXIT
fi
echo 'postfix postfix/main_mailer_type select No configuration' | $as_root debconf-set-selections
# Packages say a lot on the way; it is shown when they fail.
log="$(mktemp)"
apt() {
    if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=400 "$@" >"$log" 2>&1; then
        cat "$log" >&2
        echo "peers: apt-get $* failed" >&2
        exit 1
    fi
}
apt update
# shellcheck disable=SC2086 # one word per package
[ -z "$missing" ] || apt install -y --no-install-recommends $missing
if [ -d /run/systemd/system ]; then
    $as_root systemctl disable --quiet cyrus-imapd.service dovecot.service dovecot.socket postfix.service postgresql.service 2>/dev/null || true
fi
if [ -n "$lacks_cyrus" ]; then
    packages="$(mktemp -d)"
    # shellcheck disable=SC2016 # the version is the one of what was installed above
    version="$(dpkg-query --showformat='${Version}' --show cyrus-common)"
    (cd "$packages" && apt download "cyrus-imapd=$version")
    $as_root mkdir -p "$cyrus"
    $as_root dpkg -x "$packages"/cyrus-imapd_*.deb "$cyrus"
    rm -rf "$packages"
    missing="$missing cyrus-imapd"
fi
echo "peers: installed$missing"
