# make demo   the whole cell in the simulator, no robot, no GPU, no ROS install
# make test   lint and all tests
# make nightly  the fault catalogue with a million gate steps of other cases than the day's
# make check-format, make format, make clean
#
# One environment for all of it: .venv, made on first use and again when setup.py changes.

PYTHON ?= python3.12
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OUT := out/demo

# Under a sourced ROS 2 install, rclpy, the messages, cv_bridge and pinocchio are ROS's own.
ifdef ROS_DISTRO
EXTRAS := policy,sim,train,arm,bags,test
VENV_FLAGS := --system-site-packages
else
EXTRAS := ros,kinematics,policy,sim,train,arm,xacro,bags,test
VENV_FLAGS :=
endif

.PHONY: demo test nightly format clean
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/smolvla-ros demo --report $(OUT) --json $(OUT)/summary.json

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

nightly: $(INSTALLED)
	SMOLVLA_ROS_STEPS=1000000 SMOLVLA_ROS_SEED=$$(date +%s) \
	  $(BIN)/python -m pytest test/oracle test/faults --timeout 14400 -s

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): setup.py setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null || { \
	  echo 'error: Python 3.12 is needed and "$(PYTHON)" is not it. Install it:'; \
	  echo '  Ubuntu 24.04: sudo apt install python3.12 python3.12-venv'; \
	  echo '  elsewhere:    pyenv install 3.12   or   uv python install 3.12'; \
	  echo '  or name one:  make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)'; exit 1; }
	@echo 'Installing into $(VENV) (about 6 GB, mostly torch; once) ...'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) out build install log
