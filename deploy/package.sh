#!/bin/sh
# Makes the tarball and the .deb of a binary that is built: sh deploy/package.sh BINARY FEATURES OUTPUT
#
# dpkg-deb over a staged tree and not cargo-deb: the tarball is made of the same files, nothing has to be compiled for it,
# and the tests package the binary that they run anyway.
set -eu
cd "$(dirname "$0")/.."

binary="$1"
features="$2"
output="$3"
for tool in dpkg-deb dpkg-shlibdeps objcopy strip; do
    if ! command -v "$tool" >/dev/null; then
        echo "package: $tool is missing (Debian: dpkg-dev binutils)" >&2
        exit 1
    fi
done
version="$("$binary" --version | cut -d ' ' -f 2)"
architecture="$(dpkg --print-architecture)"
maintainer="${DEBFULLNAME:-$(git log -1 --format=%an)} <${DEBEMAIL:-$(git log -1 --format=%ae)}>"
# The same sources give the same packages.
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
umask 022
mkdir -p "$output"
output="$(cd "$output" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

put() {
    install -D -m "${3:-644}" "$1" "$2"
}
put_gz() {
    install -d "$(dirname "$2")"
    gzip -9 -n <"$1" >"$2"
}

# Line numbers for a debugger are a file of their own.
debug="$output/switchboard-$version-$architecture.debug"
objcopy --only-keep-debug "$binary" "$debug"
chmod 644 "$debug"
cp "$binary" "$work/switchboard"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$work/switchboard"
objcopy --add-gnu-debuglink="$debug" "$work/switchboard"
perl deploy/third-party "$features" >"$work/third-party.txt"

# The tarball: everything flat, paths of a machine without a package manager.
name="switchboard-$version-linux-$(uname -m)"
tarball="$work/$name"
put "$work/switchboard" "$tarball/switchboard" 755
for file in README.md CHANGELOG.md config/default.toml config/example.toml docs/openapi.json deploy/systemd/* deploy/runbook.md \
    deploy/prometheus/alerts.yaml deploy/grafana/switchboard.json; do
    put "$file" "$tarball/$(basename "$file")"
done
put deploy/debian/switchboard.toml "$tarball/switchboard.toml"
put deploy/README.md "$tarball/deploy.md"
put "$work/third-party.txt" "$tarball/third-party.txt"
tar --create --gzip --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    --directory "$work" --file "$output/$name.tar.gz" "$name"

# The .deb.
root="$work/root"
doc="$root/usr/share/doc/switchboard"
put "$work/switchboard" "$root/usr/bin/switchboard" 755
put deploy/debian/switchboard.toml "$root/etc/switchboard/switchboard.toml"
put deploy/systemd/switchboard.sysusers "$root/usr/lib/sysusers.d/switchboard.conf"
unit="$root/usr/lib/systemd/system/switchboard.service"
install -d "$(dirname "$unit")"
# The part of its head that is about installing by hand is not for whoever has a package.
sed -e 's,/usr/local/bin/,/usr/bin/,' -e '1,/^$/d' deploy/systemd/switchboard.service >"$unit"
put config/default.toml "$doc/examples/default.toml"
put config/example.toml "$doc/examples/example.toml"
put deploy/prometheus/alerts.yaml "$doc/examples/alerts.yaml"
put deploy/grafana/switchboard.json "$doc/examples/switchboard.json"
put_gz README.md "$doc/README.md.gz"
put_gz deploy/runbook.md "$doc/runbook.md.gz"
put_gz docs/openapi.json "$doc/openapi.json.gz"
put_gz "$work/third-party.txt" "$doc/third-party.txt.gz"
put deploy/debian/copyright "$doc/copyright"
put_gz CHANGELOG.md "$doc/changelog.gz"
cat >"$work/changelog.Debian" <<CHANGELOG
switchboard ($version-1) unstable; urgency=medium

  * Version $version: changelog.gz says what is new.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
put_gz "$work/changelog.Debian" "$doc/changelog.Debian.gz"
sed "s/@VERSION@/$version/" deploy/debian/switchboard.1 >"$work/switchboard.1"
put_gz "$work/switchboard.1" "$root/usr/share/man/man1/switchboard.1.gz"
put deploy/debian/lintian-overrides "$root/usr/share/lintian/overrides/switchboard"

# What the binary needs of the system it is built on, as dpkg-shlibdeps reads it.
mkdir -p "$work/debian"
printf 'Source: switchboard\n\nPackage: switchboard\nArchitecture: any\n' >"$work/debian/control"
shlibs="$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/switchboard 2>"$work/shlibdeps.log")" || {
    cat "$work/shlibdeps.log" >&2
    exit 1
}
for script in postinst prerm postrm; do
    put "deploy/debian/$script" "$root/DEBIAN/$script" 755
done
put deploy/debian/conffiles "$root/DEBIAN/conffiles"
size="$(du -k -s --exclude=DEBIAN "$root" | cut -f 1)"
sed -e "s/@VERSION@/$version-1/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@MAINTAINER@/$maintainer/" \
    -e "s/@INSTALLED_SIZE@/$size/" -e "s/@SHLIBS@/${shlibs#shlibs:Depends=}/" deploy/debian/control >"$root/DEBIAN/control"
(cd "$root" && find etc usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/md5sums"
package="$output/switchboard_$version-1_$architecture.deb"
dpkg-deb --root-owner-group -Zxz -z3 --build "$root" "$package" >/dev/null
echo "packaged $package and $output/$name.tar.gz"
