# Completion of xdropctl(8) for fish.

set -l verbs status list lookup block unblock replace flush watch check reload fetch top exporter

function __xdropctl_blocked
    set -l words (commandline -opc)
    set -l asked $words[1]
    set -l source xdropctl
    for at in (seq 2 (count $words))
        switch $words[$at]
            case --socket
                set -a asked --socket $words[(math $at + 1)]
            case --source
                set source $words[(math $at + 1)]
        end
    end
    timeout 2 $asked list --source $source 2>/dev/null | awk 'NR > 1 { print $1 }'
end

complete -c xdropctl -f
complete -c xdropctl -l socket -r -F -d 'Control socket of the daemon'
complete -c xdropctl -l json -d 'Print JSON'
complete -c xdropctl -s h -l help -d 'Print a summary'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -l version -d 'Print the version'

complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a status -d 'State, interfaces, totals, the last reload'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a list -d 'The entries in force'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a lookup -d 'Is an address blocked, and by what'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a block -d 'Block entries now, and after a restart'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a unblock -d 'Take back a block'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a replace -d 'Make what a source blocks exactly what standard input says'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a flush -d 'Take back every block of one source'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a watch -d 'What callers block and take back, live'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a check -d 'Print every problem of the files'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a reload -d 'Read the files again'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a fetch -d 'Have the lists with a URL fetched now'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a top -d 'The busiest entries, live'
complete -c xdropctl -n "not __fish_seen_subcommand_from $verbs" -a exporter -d 'Serve metrics for Prometheus'

complete -c xdropctl -n '__fish_seen_subcommand_from list block unblock replace flush watch' -l source -x -d 'Who blocks'
complete -c xdropctl -n '__fish_seen_subcommand_from block' -l for -x -a '15m 2h 7d none' -d 'For how long'
complete -c xdropctl -n '__fish_seen_subcommand_from block' -l reason -x -d 'Why'
complete -c xdropctl -n '__fish_seen_subcommand_from unblock' -a '(__xdropctl_blocked)'
complete -c xdropctl -n '__fish_seen_subcommand_from replace' -l empty -d 'Take back everything where nothing is said'
complete -c xdropctl -n '__fish_seen_subcommand_from watch' -l cursor -x -d 'From there on'
complete -c xdropctl -n '__fish_seen_subcommand_from check' -F
complete -c xdropctl -n '__fish_seen_subcommand_from reload' -l accept -r -F -d 'Take this list file or URL as it is'
complete -c xdropctl -n '__fish_seen_subcommand_from top' -l once -d 'Print one table and exit'
complete -c xdropctl -n '__fish_seen_subcommand_from top' -l by -x -a 'packets bytes rate' -d 'Sort by'
complete -c xdropctl -n '__fish_seen_subcommand_from top' -l count -x -d 'At most so many rows'
complete -c xdropctl -n '__fish_seen_subcommand_from exporter' -l listen -x -d 'Address and port'
