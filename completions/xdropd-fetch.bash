# Completion of xdropd-fetch(8) for bash.

_xdropd_fetch() {
    case $3 in
    --wanted | --fetched) compopt -o default ;;
    *) COMPREPLY=($(compgen -W "--wanted --fetched --once --version --help" -- "$2")) ;;
    esac
}

complete -F _xdropd_fetch xdropd-fetch
