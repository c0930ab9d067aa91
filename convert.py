from emitter.app.programs import convert

if __name__ == "__main__":
    convert()
