# The embedded platform.
PLATFORM := $(BIN)/usedcars-platform
ROWS ?= 50000

.PHONY: up down status logs demo clean

up: $(INSTALLED) ## start every service and wait until it is ready
	@$(PLATFORM) up

down: $(INSTALLED) ## stop everything; the data stay
	@$(PLATFORM) down

status: $(INSTALLED) ## how every service is
	@$(PLATFORM) status

logs: $(INSTALLED) ## the last lines of the logs; SERVICE=kafka for one of them
	@$(PLATFORM) logs $(SERVICE)

demo: $(INSTALLED) ## a batch becomes a live model that answers; ROWS=50000
	@$(PLATFORM) demo --rows $(ROWS)

clean: $(INSTALLED) ## stop everything and delete all data of the platform
	@$(PLATFORM) down
	@$(PLATFORM) clean
