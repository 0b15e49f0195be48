# Unpacks Debian packages into $out and makes every program in it find its loader and libraries in the store.
# Run by busybox's shell in Nix's build sandbox: nothing of the host is here. In: debs, tools, rpath, drop, loader, triplet.
set -eu
PATH=$busybox/bin

unpacked=$PWD/unpacked
mkdir -p "$unpacked" "$out"
for deb in $debs; do
  mkdir part && cd part
  ar x "$deb"
  case "$(echo data.tar.*)" in
    *.xz) unxz -c data.tar.xz | tar -x -C "$unpacked" ;;
    *.gz) gunzip -c data.tar.gz | tar -x -C "$unpacked" ;;
    *) echo "$deb: neither xz nor gzip" >&2; exit 1 ;;
  esac
  cd .. && rm -r part
done

# /usr and / are one: out/bin, out/lib, out/share.
cd "$unpacked"
for top in usr/bin bin usr/sbin sbin usr/lib lib usr/libexec usr/share; do
  [ -d "$top" ] || continue
  into=$out/$(basename "$top")
  case "$top" in usr/sbin | sbin) into=$out/bin ;; esac
  mkdir -p "$into"
  cp -a "$top/." "$into/"
done
cd "$out"
rm -rf share/doc share/man share/info share/locale share/lintian share/bug share/bash-completion share/applications \
  share/pixmaps share/icons share/menu share/base-files share/debianutils lib/systemd lib/tmpfiles.d lib/valgrind
for pattern in $drop; do rm -rf $pattern; done
chmod -R u+w .

# A link to an absolute path of a system that is not here leads nowhere: what it names is looked up in here instead.
find . -type l | while read -r link; do
  to=$(readlink "$link")
  case "$to" in
    /*) rm "$link"; [ ! -e "$out/${to#/usr/}" ] || ln -s "$out/${to#/usr/}" "$link"
        [ ! -e "$out/${to#/}" ] || ln -sf "$out/${to#/}" "$link" ;;
  esac
done

if [ -d share/ca-certificates ]; then
  mkdir -p etc/ssl/certs
  find share/ca-certificates -name '*.crt' | sort | while read -r file; do cat "$file"; echo; done > etc/ssl/certs/ca-bundle.crt
fi
# Names that Debian gives by links made at installation.
[ ! -e bin/python3.11 ] || ln -s python3.11 bin/python3
[ ! -e bin/gawk ] || ln -s gawk bin/awk

[ -n "$loader" ] || exit 0
patchelf() { "$tools/lib/$triplet/${loader##*/}" --library-path "$tools/lib/$triplet:$tools/usr/lib/$triplet" "$tools/usr/bin/patchelf" "$@"; }
own=$out/lib/$triplet
find . -type f \( -perm -100 -o -name '*.so*' \) | while read -r file; do
  [ "$(head -c 4 "$file" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] || continue
  path=$rpath
  [ ! -d "$own" ] || path=$own${path:+:$path}
  if patchelf --print-interpreter "$file" > /dev/null 2>&1; then patchelf --set-interpreter "$loader" "$file"; fi
  patchelf --set-rpath "$path" "$file"
  for wanted in $(patchelf --print-needed "$file"); do
    case "$wanted" in "${loader##*/}") continue ;; esac
    found=
    for directory in $(echo "$path" | tr ':' ' '); do [ ! -e "$directory/$wanted" ] || found=1; done
    [ -n "$found" ] || { echo "$file needs $wanted, which none of its packages has" >&2; exit 1; }
  done
done
