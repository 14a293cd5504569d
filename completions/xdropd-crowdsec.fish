# Completion of xdropd-crowdsec(8) for fish.

complete -c xdropd-crowdsec -f
complete -c xdropd-crowdsec -l config -r -F -d 'Configuration'
complete -c xdropd-crowdsec -l socket -r -F -d 'Control socket of the daemon'
complete -c xdropd-crowdsec -l check -d 'Print every problem of the configuration, and exit'
complete -c xdropd-crowdsec -l version -d 'Print the version'
complete -c xdropd-crowdsec -s h -l help -d 'Print a summary'
