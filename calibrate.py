from emitter.app.programs import calibrate

if __name__ == "__main__":
    calibrate()
