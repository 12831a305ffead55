# A plain blocking loop, without asyncio: umqtt's calls on Limpet's verified link.
#
# Wiring   none
# Boards   Pico W, Pico 2 W, ESP32
# Needs    umqtt.robust on the board: mpremote mip install umqtt.robust
# Run it   limpet up PORT --main firmware/examples/blocking.py
import time

from limpet.umqtt import MQTTClient
from limpet.wifi import Wifi
from machine import ADC

# Server, account, anchor and Wi-Fi networks come from the vault.
client = MQTTClient(wifi=Wifi(print), log=print)
sensor = ADC(26)


def on_message(topic, payload):
    print(topic, payload)


client.set_callback(on_message)
client.connect()  # returns when it is online, over any number of tries
client.subscribe("say")  # limpet/<device>/cmd/say

while True:
    client.publish("level", b"%d" % sensor.read_u16(), qos=1)
    for _ in range(600):
        client.check_msg()  # also pings, and notices a dead link
        time.sleep_ms(100)
