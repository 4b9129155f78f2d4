#!/bin/sh
# udhcpc runs this script for each lease. It sets the address of the interface, and the default route if DEFAULT_ROUTE
# is set.
# shellcheck disable=SC2154 # udhcpc sets the variables
case $1 in
bound|renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    [ -z "$DEFAULT_ROUTE" ] || [ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
    ;;
esac
