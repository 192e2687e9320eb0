"""Networks that know a picture is a grid."""
