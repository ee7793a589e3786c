"""The broker as a supervised child: Mosquitto, or amqtt where there is none."""
