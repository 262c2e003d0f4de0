#!/bin/sh
# The archive and the packages of one release, for some architectures, into dist: dist.sh VERSION FORMATS ARCH...
# FORMATS is a list of tar, deb, rpm, archlinux, apk and image with commas between. It runs at the root of the repository, by
# "make dist", "make packages" and "make image".
# ACMED_DNS=0 leaves acmed-dns out, whose build takes minutes for each architecture.
set -eu
version=$1 formats=$2
shift 2
# A version begins with a digit: v1.2.3 becomes 1.2.3, everything without a tag sorts below all of them.
# Debian and Red Hat have a sign for that, Alpine and Arch a word.
case $version in
v[0-9]*) numbered=${version#v} plain=${version#v} ;;
*) numbered=0~$version plain=0_git$(git log -1 --format=%cd --date=format:%Y%m%d) ;;
esac
numbered=$(echo "$numbered" | sed 's/-\([0-9]*-g\)/+\1/; s/-\(alpha\|beta\|pre\|rc\)/~\1/; s/-/./g')
plain=$(echo "$plain" | sed 's/-\(alpha\|beta\|pre\|rc\)\.\{0,1\}/_\1/; s/-.*//')
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH CGO_ENABLED=0

wanted() { case ",$formats," in *",$1,"*) ;; *) return 1 ;; esac; }

for arch; do
	case $arch in
	armv7) goarch=arm nfpm=arm7 ;;
	*) goarch=$arch nfpm=$arch ;;
	esac
	bin=dist/bin/$arch root=dist/root/$arch
	rm -rf "$bin" "$root"
	mkdir -p "$bin"
	make --no-print-directory acmed OUT="$PWD/$bin" GOOS=linux GOARCH="$goarch" GOARM=7
	[ "${ACMED_DNS:-1}" = 0 ] || make --no-print-directory acmed-dns OUT="$PWD/$bin" GOOS=linux GOARCH="$goarch" GOARM=7
	umask 022
	make --no-print-directory --silent files DESTDIR="$root" BIN="$bin"
	gzip -9n "$root"/usr/share/man/man[15]/*

	if wanted tar; then
		name=acmed-$plain-linux-$arch.tar.gz
		# Without directories, so that unpacking into / leaves the modes of those that are there.
		(cd "$root" && find . -type f | sort | sed 's|^\./||') |
			tar -C "$root" --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=root:0 --group=root:0 --no-recursion -T - -cf - | gzip -9n >"dist/$name"
	fi
	if wanted image; then
		sh deploy/container/context.sh "$bin" dist/image "$arch"
	fi
	for format in deb rpm archlinux apk; do
		wanted "$format" || continue
		cp -a "$root" "$root-$format"
		(
			cd "$root-$format"
			case $format in
			deb) mv usr/share/doc/acmed/LICENSE usr/share/doc/acmed/copyright ;;
			*)
				install -d usr/share/licenses/acmed
				mv usr/share/doc/acmed/LICENSE usr/share/licenses/acmed/LICENSE
				mv usr/share/zsh/vendor-completions usr/share/zsh/site-functions # the directory of Debian's zsh is its own
				;;
			esac
			[ $format != apk ] || rm -r usr/lib
		)
		rm -rf dist/package
		cp -R deploy/package dist/package # nfpm.yaml takes the scripts from there, because packages have their times
		find "$root-$format" dist/package -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
		number=$numbered
		case $format in apk | archlinux) number=$plain ;; esac
		PACKAGE_ARCH=$nfpm PACKAGE_VERSION=$number PACKAGE_ROOT=$root-$format .cache/bin/nfpm package -f deploy/package/nfpm.yaml -p "$format" -t dist/
		rm -rf "$root-$format"
	done
done
[ "$formats" != image ] || exit 0
cd dist
find . -maxdepth 1 -type f -name 'acmed[-_]*' | sed 's|^\./||' | sort | xargs sha256sum >SHA256SUMS
