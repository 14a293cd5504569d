"""The daemon: the one place where text, rules, kernel and machine meet."""
