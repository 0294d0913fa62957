# The program makes its completions itself, when they are first wanted.
postrider completions fish | source
