# Completion of xdropd-fetch(8) for fish.

complete -c xdropd-fetch -f
complete -c xdropd-fetch -l wanted -r -F -d 'What the daemon wants fetched'
complete -c xdropd-fetch -l fetched -r -F -d 'What has come'
complete -c xdropd-fetch -l once -d 'Fetch what is due, or these URLs, and exit'
complete -c xdropd-fetch -l version -d 'Print the version'
complete -c xdropd-fetch -s h -l help -d 'Print a summary'
