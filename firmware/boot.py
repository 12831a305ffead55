# Runs at every start, before main.py. Kept empty so that nothing here can keep you from the REPL:
# Ctrl-C in a terminal (mpremote, Thonny) stops main.py and gives the prompt back.
