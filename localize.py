from emitter.app.programs import localize

if __name__ == "__main__":
    localize()
