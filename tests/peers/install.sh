#!/bin/sh
# Installs the mail servers that the tests start for themselves (Debian and its relatives).
#
# The packages would start system-wide servers and add them to the boot; both are prevented, since the tests run their
# own on loopback. What is already installed is left as it is.
set -eu

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
# The second IMAP server. Debian lets only one be installed, so of this one the part that differs is unpacked.
cyrus=/usr/local/lib/switchboard-peers/cyrus-imapd
lacks_cyrus=''
[ -x /usr/lib/cyrus/bin/imapd ] || [ -x "$cyrus/usr/lib/cyrus/bin/imapd" ] || lacks_cyrus=yes
[ -x /usr/lib/cyrus/bin/master ] || missing="$missing cyrus-common"
if [ -z "$missing$lacks_cyrus" ]; then
    echo 'peers: Dovecot, Cyrus and Postfix are installed'
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "peers: these tests need Dovecot 2.3 (imap, lmtp), Cyrus 3.6 and Postfix 3; install them and run this again" >&2
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
    $as_root systemctl disable --quiet cyrus-imapd.service dovecot.service dovecot.socket postfix.service 2>/dev/null || true
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
