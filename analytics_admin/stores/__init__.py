"""How both engines reach a server: clients, pools, time-outs, process hooks."""
