# The program makes its completions itself, when they are first wanted.
eval "$(postrider completions bash)"
