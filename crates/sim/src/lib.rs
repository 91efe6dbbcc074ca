//! Seeded worlds of routers, controllers, disks, clocks and networks.
