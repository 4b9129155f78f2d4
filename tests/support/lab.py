"""The variables of an environment that `util init_lxd` prepares on a test host."""

VARIABLES = """\
lxd_project_name: boshdev
lxd_profile_name: bosh
lxd_network_name: boshdevbr0
lxd_storage_pool_name: devpool
internal_cidr: 10.250.0.0/24
internal_gw: 10.250.0.1
internal_ip: 10.250.0.11
dhcp_range: 10.250.0.180-10.250.0.199
"""
