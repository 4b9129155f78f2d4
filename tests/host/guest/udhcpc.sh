#!/bin/sh
# What udhcpc calls with a lease: give the interface its address and, if DEFAULT_ROUTE says so, the default route.
# shellcheck disable=SC2154 # udhcpc sets the variables
case $1 in
bound|renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    [ -z "$DEFAULT_ROUTE" ] || [ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
    ;;
esac
