# What every firmware with Limpet holds. Included by the manifests beside it.
metadata(description="Limpet device client", version="0.1.0")
require("umqtt.simple")  # the blocking drop-in builds on these two
require("umqtt.robust")
package("limpet", base_path="../../lib", opt=2)
module("main.py", base_path="..", opt=2)
