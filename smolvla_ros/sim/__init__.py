"""The tabletop scene in MuJoCo, built from the URDF that the gate reads."""
