# Completion of xdropd-crowdsec(8) for bash.

_xdropd_crowdsec() {
    case $3 in
    --config | --socket) compopt -o default ;;
    *) COMPREPLY=($(compgen -W "--config --socket --check --version --help" -- "$2")) ;;
    esac
}

complete -F _xdropd_crowdsec xdropd-crowdsec
