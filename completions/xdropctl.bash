# Completion of xdropctl(8) for bash.

_xdropctl() {
    local line=${COMP_LINE:0:COMP_POINT} word verb= source=xdropctl socket=() before= cur words
    cur=${line##*[[:space:]]} # the whole word: bash itself would cut IPv6 addresses at their colons
    read -ra words <<<"${line%"$cur"}"
    for word in "${words[@]:1}"; do
        case $before in
        --socket) socket=(--socket "$word") ;;
        --source) source=$word ;;
        --for | --reason | --accept | --by | --count | --cursor | --listen) ;;
        *) [[ $word == -* || -n $verb ]] || verb=$word ;;
        esac
        before=$word
    done

    case $before in
    --socket | --accept) compopt -o default && return ;;
    --by) COMPREPLY=($(compgen -W "packets bytes rate" -- "$cur")) && return ;;
    --for) COMPREPLY=($(compgen -W "15m 2h 7d none" -- "$cur")) && return ;;
    --source | --reason | --count | --cursor | --listen) return ;;
    esac

    local options="--socket --json --help"
    case $verb in
    "") options+=" --version" ;;
    list | unblock | flush) options+=" --source" ;;
    block) options+=" --for --reason --source" ;;
    replace) options+=" --source --empty" ;;
    watch) options+=" --source --cursor" ;;
    reload) options+=" --accept" ;;
    top) options+=" --once --by --count" ;;
    exporter) options+=" --listen" ;;
    esac

    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
    elif [[ -z $verb ]]; then
        COMPREPLY=($(compgen -W "status list lookup block unblock replace flush watch check reload fetch top exporter" -- "$cur"))
    elif [[ $verb == unblock ]]; then
        local blocked
        blocked=$(timeout 2 "${words[0]}" "${socket[@]}" list --source "$source" 2>/dev/null | awk 'NR > 1 { print $1 }')
        COMPREPLY=($(compgen -W "$blocked" -- "$cur"))
        # What stands before the last colon is already there, as far as bash is concerned.
        if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
            COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
        fi
    elif [[ $verb == check ]]; then
        compopt -o default
    fi
}

complete -F _xdropctl xdropctl
