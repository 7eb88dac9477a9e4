# Shared by the scripts beside it: `. "$(dirname "$0")/lib.sh"`. POSIX sh.
#
# Sets ROOT and CACHE. `ensure_venv EXTRAS` sets VENV; `ensure_server` sets PYMYSQLPOOL_SERVER; `test_processes` prints a
# number.
# Environment: PYMYSQLPOOL_VENV (default: .venv in the project), PYTHON, PYMYSQLPOOL_SERVER, XDG_CACHE_HOME;
# PYMYSQLPOOL_PYMYSQL, a version of PyMySQL to use instead of the newest.

set -eu

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/pymysqlpool

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# -- Python ------------------------------------------------------------------------------------------------

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || die "PYTHON=$PYTHON is not a Python >= 3.11"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python >= 3.11 found on PATH. Install one, or name it: PYTHON=/path/to/python3 $0"
}

has_ensurepip() { "$1" -c 'import ensurepip, venv; ensurepip.version()' >/dev/null 2>&1; }

# pip's wheel from the distribution, for a Python that comes without venv and ensurepip. Prints its path.
pip_wheel() {
    for wheel in /usr/share/python-wheels/pip-*.whl "$CACHE"/pip/usr/share/python-wheels/pip-*.whl; do
        [ -f "$wheel" ] && { printf '%s\n' "$wheel"; return; }
    done
    command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
        die "this Python has no ensurepip. Install the venv package of your system's Python, or set PYTHON"
    say "fetching pip (python3-pip-whl) into $CACHE/pip"
    unpack_package "$CACHE/pip" python3-pip-whl || die "could not download python3-pip-whl"
    for wheel in "$CACHE"/pip/usr/share/python-wheels/pip-*.whl; do
        [ -f "$wheel" ] || die "python3-pip-whl holds no pip"
        printf '%s\n' "$wheel"
    done
}

make_venv() {
    python=$(find_python)
    say "creating $VENV with $("$python" -V) ($python)"
    # Debian ships venv without ensurepip unless python3-venv is installed.
    if ! has_ensurepip "$python" && is_root && command -v apt-get >/dev/null; then
        say "this Python has no ensurepip: installing python3-venv"
        apt_install python3-venv || say "that failed; going on without it"
    fi
    if has_ensurepip "$python"; then
        "$python" -m venv --clear "$VENV"
    else
        "$python" -m venv --clear --without-pip "$VENV"
        wheel=$(pip_wheel)
        say "installing pip from $wheel"
        PYTHONPATH=$wheel "$VENV/bin/python" -m pip install --quiet --ignore-installed "$wheel"
    fi
}

# ensure_venv EXTRAS: a virtual environment with this project (editable) and its extras, such as `dev`; or ''.
ensure_venv() {
    extras=$1
    VENV=${PYMYSQLPOOL_VENV:-$ROOT/.venv}
    case $VENV in /*) ;; *) VENV=$ROOT/$VENV ;; esac
    new_enough "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
    stamp=$VENV/.pymysqlpool-$extras
    want="$ROOT $(cksum <"$ROOT/pyproject.toml") ${PYMYSQLPOOL_PYMYSQL:-}"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
    say "installing the project${extras:+ with [$extras]} into $VENV"
    "$VENV/bin/python" -m pip install --quiet --editable "$ROOT${extras:+[$extras]}"
    [ -z "${PYMYSQLPOOL_PYMYSQL:-}" ] ||
        "$VENV/bin/python" -m pip install --quiet --no-deps "PyMySQL==$PYMYSQLPOOL_PYMYSQL"
    printf '%s\n' "$want" >"$stamp"
}

# How many processes share the tests: enough for two cores to be busy while most tests wait.
test_processes() {
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
    [ "$cores" -gt 6 ] && echo "$cores" || echo 6
}

# -- apt: with root's rights, or in private folders without any ---------------------------------------------

apt_install() {
    apt-get update -qq >&2 || say "apt-get update failed; trying with the lists there are"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# An apt that keeps its lists and its cache in our folder; no rights needed.
private_apt() {
    apt=$CACHE/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    apt-get -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none "$@"
}

# unpack_package FOLDER NAME...: download the first of these packages that exists, and unpack it into FOLDER.
# Installs nothing. Uses the system's package lists; where they are missing or out of date, lists of our own.
unpack_package() {
    target=$1
    shift
    work=$CACHE/download.$$
    rm -rf "$work"
    mkdir -p "$work" "$target"
    found=
    for way in apt-get private_apt; do
        if [ "$way" = private_apt ] && [ -z "${lists_updated:-}" ]; then
            say "updating package lists in $CACHE/apt"
            private_apt -qq update >&2 || say "apt-get update reported errors"
            lists_updated=1
        fi
        for package in "$@"; do
            if (cd "$work" && $way -qq download "$package") >>"$work/log" 2>&1; then
                found=$package
                break 2
            fi
        done
    done
    if [ -n "$found" ] && dpkg -x "$work"/*.deb "$target"; then
        say "unpacked $found"
        rm -rf "$work"
        return 0
    fi
    cat "$work/log" >&2
    rm -rf "$work"
    return 1
}

# -- the database server -----------------------------------------------------------------------------------

# In the order of pymysqlpool/devserver.py. Prints the path, or nothing.
find_server() (
    PATH=$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec:/opt/homebrew/bin:/usr/local/bin
    command -v mariadbd || command -v mysqld && exit
    for binary in "$CACHE"/server/*/usr/sbin/mariadbd; do
        if [ -x "$binary" ]; then
            printf '%s\n' "$binary"
            exit
        fi
    done
)

# missing_libraries TREE PROGRAM: the shared libraries that it does not find, in the tree's folders or the system's.
missing_libraries() {
    libraries=$(printf '%s:' "$1"/usr/lib/*-linux-gnu "$1"/lib/*-linux-gnu)
    LD_LIBRARY_PATH=$libraries ldd "$1/$2" | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p'
}

# The names that Debian may give to the package with a library: libaio1 or libaio1t64 for libaio.so.1, liblua5.3-0 for
# liblua5.3.so.0.
packages_of() {
    name=$(printf '%s' "$1" | sed 's/\([0-9]\)\.so\./\1-/; s/\.so\.//')
    printf '%s\n' "$name" "${name}t64"
}

# unpack_program TREE PACKAGE PROGRAM: the package, with the libraries that this system lacks, and that these lack, into
# a new folder. No rights needed, and nothing is installed or started. False: something is still missing.
unpack_program() {
    new=$(dirname "$1")/.new.$$
    unpack_package "$new" "$2" || return 1
    tried=
    while
        untried=
        for library in $(missing_libraries "$new" "$3"); do
            case " $tried " in *" $library "*) ;; *) untried="$untried $library" ;; esac
        done
        [ -n "$untried" ]
    do
        for library in $untried; do
            # shellcheck disable=SC2046  # names without spaces
            unpack_package "$new" $(packages_of "$library") || say "no package found for $library"
        done
        tried="$tried$untried"
    done
    missing=$(missing_libraries "$new" "$3" | tr '\n' ' ')
    if [ -n "$missing" ]; then
        say "$2 lacks $missing"
        rm -rf "$new"
        return 1
    fi
    rm -rf "$1"
    mkdir -p "$(dirname "$1")"
    mv "$new" "$1"
}

# mariadb-server-core into the cache folder.
unpack_server() {
    say "downloading mariadb-server-core (about 8 MB) and unpacking it in $CACHE/server; nothing is installed"
    unpack_program "$CACHE/server/mariadb" mariadb-server-core usr/sbin/mariadbd ||
        die "the server cannot be had like this. Ask an administrator for: apt-get install mariadb-server-core"
}

# ensure_server: a MariaDB or MySQL server program. One that is there already is used, never replaced.
ensure_server() {
    if [ -n "${PYMYSQLPOOL_SERVER:-}" ]; then
        command -v "$PYMYSQLPOOL_SERVER" >/dev/null ||
            die "PYMYSQLPOOL_SERVER=$PYMYSQLPOOL_SERVER is no executable file"
        return
    fi
    server=$(find_server)
    if [ -z "$server" ]; then
        if ! command -v apt-get >/dev/null; then
            die "no MariaDB or MySQL server found. Type one of:
    dnf install mariadb-server      (Fedora, RHEL)
    brew install mariadb            (macOS)
or name one that you have: PYMYSQLPOOL_SERVER=/path/to/mariadbd $0"
        elif is_root; then
            say "installing mariadb-server-core (the program only; it brings no service)"
            apt_install mariadb-server-core || die "apt-get install mariadb-server-core failed"
        else
            unpack_server
        fi
        server=$(find_server)
        [ -n "$server" ] || die "mariadb-server-core brought no server program"
    fi
    say "database server: $server"
    PYMYSQLPOOL_SERVER=$server
    export PYMYSQLPOOL_SERVER
}

# -- what only some tests and one demo need: Galera's library, HAProxy. Where tests/routing looks for them -----

has_galera() {
    for library in /usr/lib/galera /usr/lib64/galera-4 "$CACHE/galera/usr/lib/galera"; do
        [ -e "$library/libgalera_smm.so" ] && return
    done
    return 1
}

get_galera() {
    has_galera && return
    command -v apt-get >/dev/null || return 1
    if is_root; then
        say "installing galera-4 (a library; it brings no service)"
        apt_install galera-4
    else
        say "unpacking galera-4 in $CACHE/galera; nothing is installed"
        unpack_program "$CACHE/galera" galera-4 usr/lib/galera/libgalera_smm.so
    fi
    has_galera
}

wish_galera() { get_galera || say "there is no Galera library; the tests of Galera will be skipped"; }

ensure_galera() {
    "$PYMYSQLPOOL_SERVER" --no-defaults --version | grep -q MariaDB ||
        die "$PYMYSQLPOOL_SERVER is not MariaDB's server, which has Galera. Name one: PYMYSQLPOOL_SERVER=/path/to/mariadbd $0"
    get_galera || die "Galera's library is missing. Type: apt-get install galera-4    (or: dnf install galera)"
}

# Unpacked, and not installed, root or not: Debian's package starts a service.
wish_haproxy() {
    (PATH=$PATH:/usr/sbin:/usr/local/sbin && command -v haproxy >/dev/null) && return
    [ -x "$CACHE/haproxy/usr/sbin/haproxy" ] && return
    command -v apt-get >/dev/null || return 0
    say "unpacking haproxy in $CACHE/haproxy; nothing is installed"
    unpack_program "$CACHE/haproxy" haproxy usr/sbin/haproxy || say "that failed; the tests of HAProxy will be skipped"
}
